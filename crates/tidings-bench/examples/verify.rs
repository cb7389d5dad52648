use clap::Parser;
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: tidings_bench::verify::VerifyOptions,
}
fn main() -> std::process::ExitCode {
    tidings_bench::verify::run(&Cli::parse().options)
}
