//! Ratings and everything around them: the readers on sound files, broken ones and the real ones
//! where they are there; samples, splits, leaks; the built-in data set; getting data.

mod amazon;
mod bad_input;
mod big;
mod book_crossing;
mod broken_files;
mod common;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod database;
mod forms;
mod fuzz;
mod goodbooks;
mod lightgcn;
mod movielens_csv;
mod other_programs;
mod parquet_file;
mod properties;
mod pull;
mod real;
mod recipes;
#[path = "../common/skip.rs"]
mod skip;
mod synthetic;
mod table;
mod typed;
