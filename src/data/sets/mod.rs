//! One file a data set: what is known of it, a [`DataSet`], with the function that reads it. Where
//! a data set has complete tables of items and users, a loader reads them into [`Tables`] and feeds
//! the ratings through [`Ratings`]; where it has not, ids are met in a [`Log`]. Both give sorting,
//! duplicate reports and checks of ids for free.

mod amazon;
mod amazon_csv;
mod amazon_meta;
mod book_crossing;
pub mod fields;
mod goodbooks;
mod lightgcn;
mod log;
mod movielens_100k;
mod movielens_1m;
mod movielens_csv;
mod tables;

pub use log::{About, LeftOut, Log, Names, Nature};
pub use tables::{Ids, Ratings, RepeatCount, Row, Tables, Unique, order, repeats as repeat_count, sort};

use super::set::{DataSet, Kind};
use super::{synthetic, table};

/// All data sets, in the order of the help text, and the names that this program has for them.
macro_rules! sets {
    ($($name:ident = $set:path,)*) => {
        /// All data sets, in the order of the help text.
        pub(super) static ALL: &[&DataSet] = &[$(&$set,)*];

        impl Kind {
            $(#[doc = concat!("`", stringify!($set), "`")] pub const $name: Kind = Kind(&$set);)*
        }
    };
}

sets! {
    ML_1M = movielens_1m::SET,
    ML_10M = movielens_1m::SET_10M,
    ML_100K = movielens_100k::SET,
    ML_25M = movielens_csv::SET,
    BOOK_CROSSING = book_crossing::SET,
    GOODBOOKS = goodbooks::SET,
    AMAZON = amazon::SET,
    AMAZON_2023 = amazon::SET_2023,
    AMAZON_CSV = amazon_csv::SET,
    LIGHTGCN = lightgcn::SET,
    TABLE = table::SET,
    SYNTHETIC = synthetic::SET,
}
