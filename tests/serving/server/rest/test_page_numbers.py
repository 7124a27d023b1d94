"""The page's form in a browser: numbers are sent as typed and shown as the server wrote them."""

import json

import pytest

FIELD = "#fields textarea"


@pytest.fixture
def echo(browser, url):
    """echo(dtype): the page of a model that returns its input of that dtype; no script may fail."""
    errors = []
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def go(dtype):
        page.goto(f"{url}/#echo")
        page.locator("#signature").select_option(dtype)
        return page

    yield go
    page.close()
    assert errors == []


def ask(page):
    """Presses the button; returns the sent text and the shown answer."""
    with page.expect_response("**/v1/models/**") as response:
        page.get_by_role("button", name="Run", exact=True).click()
    page.locator("#latency").get_by_text(" ms").wait_for()
    return response.value.request.post_data, page.locator("#answer").inner_text()


def test_integers_beyond_the_precision_of_a_browser(echo):
    page = echo("int64")
    page.locator(FIELD).fill("[9007199254740993, 7]")
    sent, shown = ask(page)
    assert sent == '{"signature_name":"int64","inputs":{"x":[9007199254740993, 7]}}'
    assert "9007199254740993" in shown and "7" in shown


def test_nan_and_infinities(echo):
    page = echo("float32")
    page.locator(FIELD).fill("[NaN, -Infinity, 0.1234567890123456789]")
    sent, shown = ask(page)
    assert sent.endswith('{"x":[NaN, -Infinity, 0.1234567890123456789]}}')
    assert "NaN" in shown and "-Infinity" in shown and "not of expected type" not in shown
    page.get_by_label("as JSON", exact=True).check()
    assert page.locator(FIELD).input_value() == sent
    page.get_by_label("as JSON", exact=True).click()  # fields would change them
    assert page.locator(FIELD).input_value() == sent


def test_text_that_looks_like_a_number_stays_text(echo):
    page = echo("string")
    page.locator(FIELD).fill('["NaN", "9007199254740993"]')
    sent, shown = ask(page)
    assert json.loads(sent)["inputs"] == {"x": ["NaN", "9007199254740993"]}
    assert "not of expected type" not in shown


def test_the_form_returns_with_the_model(echo, url):
    page = echo("float32")
    page.locator(FIELD).wait_for()
    with page.expect_response("**/page/models.json") as response:
        pass
    away = response.value.json()
    for model in away:
        model["versions"] = [{"version": "1", "state": "UNLOADING", "error": "", "labels": []}]
    page.route("**/page/models.json", lambda route: route.fulfill(json=away))
    page.get_by_text("No version is available.").wait_for()
    assert page.locator("#form").is_hidden()
    page.unroute("**/page/models.json")
    page.locator("#form").wait_for()
    assert page.get_by_text("No version is available.").count() == 0
    assert "refused" not in ask(page)[1]


def test_long_rows_are_shown_in_part(echo):
    page = echo("float32")
    counts = page.evaluate("""async () => {
        const { show } = await import("/page/answers.js");
        const row = (value) => [Array(130000).fill(value)];
        const words = show({ words: row("a"), weights: row(1) }, {});
        const table = show({ digit: row("4"), confidence: row(1) }, {});
        const list = show({ alternatives: row("a") }, {});
        return [words.querySelectorAll(".word"), table.querySelectorAll("tr"), list.querySelectorAll("li")]
            .map((found) => found.length);
    }""")
    assert counts == [1000, 1001, 1000]
