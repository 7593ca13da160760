//! The readers of all data sets but the two small MovieLens: sound files, broken ones, the real ones where they are
//! there, and getting them.

mod amazon;
mod bad_input;
mod big;
mod book_crossing;
mod common;
mod goodbooks;
mod lightgcn;
mod movielens_csv;
mod parquet_file;
mod pull;
mod recipes;
mod table;
