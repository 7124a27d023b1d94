"""A trained model's release: evaluated, registered, compared with the champion, exported, and kept or removed."""
