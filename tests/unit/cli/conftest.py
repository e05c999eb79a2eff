"""Commands are tried in the test's process, and time each network once."""

from made.step_times import recalled_step_times as recalled_step_times
