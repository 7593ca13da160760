//! Files of a form that is not read, named for what they are, with the way out.

use std::path::Path;

use crate::error::Error;

/// The first bytes of a SAS data set.
const SAS: &[u8] = b"\0\0\0\0\0\0\0\0\0\0\0\0\xc2\xea\x81\x60\xb3\x14\x11\xcf\xbd\x92\x08\0\x09\xc7\x31\x8c";

/// What a file is by its first bytes, and what to do with it; `None` where it may be read.
pub fn named(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const TABLE: [(&[u8], &str, &str); 27] = [
        (
            b"SQLite format 3\0",
            "is an SQLite database",
            "set data.table.query to a SELECT over its tables (data.kind = \"table\")",
        ),
        (b"\xd0\xcf\x11\xe0", "is an Excel file of the old form, or another Office file", "save it as CSV"),
        (b"PK\x03\x04", "is a zip file inside of another file", "unpack it first"),
        (b"PK\x05\x06", "is an empty zip file", "check the path"),
        (b"\x5d\0\0", "is an LZMA file of the old form", "unpack it first, or compress it as .xz"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "unpack it first"),
        (b"Rar!\x1a\x07", "is a RAR archive", "unpack it first"),
        (b"ORC", "is an ORC file", "write it as Parquet or CSV"),
        (b"FEA1", "is a Feather file of version 1", "write it again as Parquet, or as Feather of version 2"),
        (b"PARE", "is an encrypted Parquet file", "write it without encryption"),
        (b"RDX", "is a data file of R", "write the table as CSV: write.csv"),
        (b"Obj\x01", "is an Avro file", "write it as Parquet or CSV"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", "write the table as Parquet or CSV, e.g. with pandas"),
        (b"\x93NUMPY", "is a NumPy array", "write it as CSV, with a column each for user, item, rating and time"),
        (b"\x80\x02", "is a Python pickle", "write the table as Parquet or CSV"),
        (b"\x80\x03", "is a Python pickle", "write the table as Parquet or CSV"),
        (b"\x80\x04\x95", "is a Python pickle", "write the table as Parquet or CSV"),
        (b"\x80\x05\x95", "is a Python pickle", "write the table as Parquet or CSV"),
        (b"%PDF-", "is a PDF document", "write the table as CSV"),
        (b"\x1f\x8b", "is compressed twice", "unpack it once"),
        (b"X\n\0\0\0", "is a data file of R", "write the table as CSV: write.csv"),
        (b"<stata_dta>", "is a data file of Stata", "write the table as CSV: export delimited"),
        (b"$FL2", "is a data file of SPSS", "write the table as CSV"),
        (b"$FL3", "is a data file of SPSS", "write the table as CSV"),
        (SAS, "is a data file of SAS", "write the table as CSV: PROC EXPORT"),
        (b"<?xml", "is an XML document", "write the table as CSV"),
        (
            b"version https://git-lfs.github.com/",
            "is a pointer of Git LFS and not the file itself",
            "fetch the file: git lfs pull",
        ),
    ];
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins(b"<!doctype html") || begins(b"<html") {
        return Some(("is a web page", "fetch the file itself: what was saved may be a page of log-in or of an error"));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(("is a tar archive", "unpack it (tar -xf), and name the file in it"));
    }
    TABLE.iter().find(|(magic, ..)| head.starts_with(magic)).map(|(_, what, next)| (*what, *next))
}

/// The error for a file of today's Office programs, which is a zip file.
pub fn office(path: &Path) -> Error {
    Error::input(path.display(), "is an Excel file, or another Office file").next("save the sheet as CSV")
}
