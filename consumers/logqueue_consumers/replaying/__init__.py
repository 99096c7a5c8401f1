"""What replays are made of besides the engine: chosen records, recorded outcomes, effects, comparison, export."""
