"""Reports of a search: the live table, the leaderboard, pictures and the HTML report."""
