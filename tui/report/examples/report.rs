//! `cargo run -p rallrec-report --example report -- RUN FILE`: the page without the engine.

fn main() -> std::io::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(run), Some(file)) = (args.next(), args.next()) else {
        eprintln!("usage: report RUN FILE");
        std::process::exit(2);
    };
    std::fs::write(file, rallrec_report::html(std::path::Path::new(&run))?)
}
