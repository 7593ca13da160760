use rallrec::data::Kind;

use crate::common::*;

pub const RATINGS: &[u8] = b"userId,movieId,rating,timestamp\n1,10,5.0,100\n1,20,0.5,90\n2,10,1.0,95\n";
pub const MOVIES: &[u8] = "movieId,title,genres\n10,\"Fenêtre, La (1990)\",Comedy|Drama\n20,\"The \"\"Up\"\" (1991)\",(no genres listed)\n30,Unseen (2000),Drama\n".as_bytes();

pub fn small(changed: &str, bytes: &[u8]) -> tempfile::TempDir {
    let files = [("ratings.csv", RATINGS), ("movies.csv", MOVIES)];
    folder(&files.map(|(name, sound)| (name, if name == changed { bytes } else { sound })))
}

#[test]
fn folder_gzip_and_zip_read_alike() {
    let dir = small("", b"");
    let a = load(Kind::ML_25M, dir.path()).expect("reads");
    assert_eq!(
        a.items.iter().map(|i| i.title.as_str()).collect::<Vec<_>>(),
        ["Fenêtre, La (1990)", "The \"Up\" (1991)", "Unseen (2000)"]
    );
    assert_eq!((a.items[0].genres.len(), a.items[1].genres.len(), a.scale), (2, 0, (0.5, 5.0)));
    assert_eq!(
        a.interactions.iter().map(|r| (r.time, r.rating)).collect::<Vec<_>>(),
        [(90, 0.5), (95, 1.0), (100, 5.0)]
    );
    let packed = folder(&[("ratings.csv.gz", &pack(RATINGS)), ("movies.csv", MOVIES)]);
    assert_eq!(load(Kind::ML_25M, packed.path()).expect("reads"), a);
    let zip = dir.path().join("ml-32m.zip");
    zipped(&zip, &[("ml-32m/README.txt", b"x"), ("ml-32m/ratings.csv", RATINGS), ("ml-32m/movies.csv", MOVIES)]);
    assert_eq!(load(Kind::ML_25M, &zip).expect("reads"), a);
    zipped(&zip, &[("ml-32m/ratings.csv.gz", &pack(RATINGS)), ("ml-32m/movies.csv", MOVIES)]);
    assert_eq!(load(Kind::ML_25M, &zip).expect("reads"), a);
    // A folder that holds nothing but the zip file is as good as the file.
    let alone = tempfile::tempdir().expect("folder");
    std::fs::copy(&zip, alone.path().join("ml-32m.zip")).expect("copies");
    assert_eq!(load(Kind::ML_25M, alone.path()).expect("reads"), a);
    // Columns in another order are found by their names; CRLF, a byte order mark and blank lines do
    // not matter.
    let turned = "\u{feff}timestamp,rating,movieId,userId\r\n100,5,10,1\r\n\r\n90,0.5,20,1\r\n95,1,10,2".as_bytes();
    assert_eq!(load(Kind::ML_25M, small("ratings.csv", turned).path()).expect("reads"), a);
}

#[test]
fn a_damaged_zip_says_so() {
    let dir = small("", b"");
    let zip = dir.path().join("ml-25m.zip");
    let many: Vec<u8> =
        (0..4000u32).flat_map(|n| format!("{n},10,{}.0,{}\n", 1 + n % 5, n * 7919 % 90_001).into_bytes()).collect();
    let many = [&RATINGS[..32], &many].concat();
    zipped(&zip, &[("ratings.csv", &many), ("movies.csv", MOVIES)]);
    assert_eq!(load(Kind::ML_25M, &zip).expect("reads").interactions.len(), 4000);
    let sound = std::fs::read(&zip).expect("reads");
    let mut flipped = sound.clone();
    flipped[sound.len() / 3] ^= 0x40;
    std::fs::write(&zip, &flipped).expect("writes");
    let error = load(Kind::ML_25M, &zip).expect_err("damaged");
    assert!(error.place().contains("ml-25m.zip") && !error.next_step().is_empty(), "{error}");
    // One digit changed where nothing is compressed: only the checksum tells.
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("ratings.csv", RATINGS), ("movies.csv", MOVIES)] {
        writer.start_file(name, stored).expect("starts");
        std::io::Write::write_all(&mut writer, bytes).expect("writes");
    }
    let mut bytes = writer.finish().expect("finishes").into_inner();
    let at = bytes.windows(8).position(|w| w == b"1,10,5.0").expect("the row") + 5;
    bytes[at] = b'4';
    std::fs::write(&zip, &bytes).expect("writes");
    let error = load(Kind::ML_25M, &zip).expect_err("changed");
    assert!(error.what().contains("checksum"), "{error}");
    for cut in [4, 100, sound.len() / 2, sound.len() - 10] {
        std::fs::write(&zip, &sound[..cut]).expect("writes");
        let error = load(Kind::ML_25M, &zip).expect_err("cut");
        assert!(error.place().contains("ml-25m.zip") && !error.next_step().is_empty(), "{cut}: {error}");
    }
}
