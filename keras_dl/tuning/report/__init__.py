"""What a search shows: the live table, the leaderboard, pictures and the HTML report."""
