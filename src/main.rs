fn main() -> std::process::ExitCode {
    prismrec::cli::main()
}
