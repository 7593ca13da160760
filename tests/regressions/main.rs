//! One short test for each bug that was found, in a file named after what went wrong. The test
//! fails on the code of the day when the bug was found; its comment says what a user saw. A bug in
//! code that cannot be reached from here has its test beside that code, with the same comment.

mod answers_read_inside_an_open_thought;
mod files_that_a_key_did_not_see;
mod list_of_runs_without_results;
mod published_files_in_other_forms;
mod published_splits_and_logs_without_ratings;
mod results_of_an_older_program;
mod templates_without_end;
mod titles_that_spell_control_tokens;
