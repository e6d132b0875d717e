// The command line: parsing and printing; what it does is in the modules.

import ArgumentParser
import Ukehi

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

@main
struct UkehiCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ukehi",
        abstract: "A replicated, multi-Raft storage engine.",
        discussion: """
            Measure it on this machine, three nodes over loopback with real syncs:
              ukehi bench

            Run one node, and use it:
              ukehi serve --cluster-data-dir ./data
              ukehi kv put greeting hello
              ukehi kv get greeting

            Run a cluster: one file per node, started on three machines or ports:
              ukehi serve --config node-1.toml

            See who holds what, and move it:
              ukehi member list
              ukehi member replace node-3 --with node-4 --all

            Go on when most nodes are lost for good:
              ukehi recover --dead node-2,node-3

            See what a node has on disk, running or not:
              ukehi wal dump ./data --limit 20
              ukehi wal stat ./data
              ukehi wal verify ./data

            See the ranges that keys are divided into, and divide them:
              ukehi region list
              ukehi region split --at user/5000

            Back up a stopped node, and make a new one of the backup:
              ukehi snapshot export ./data --out-dir ./backup
              ukehi snapshot import ./backup --data-dir ./restored

            Exit codes: 20 corruption, 21 I/O failed, 22 disk full, 23 wrong key, 24 identity,
            64 usage, 69 unavailable, 78 configuration.
            """,
        version: Version.text,
        subcommands: subcommands)

    private static var subcommands: [any ParsableCommand.Type] {
        let shipped: [any ParsableCommand.Type] = [
            Bench.self, Serve.self, KeyValueCommand.self, MemberCommand.self, RegionCommand.self,
            RecoverCommand.self, WALCommand.self, SnapshotCommand.self, SimulateCommand.self,
            VersionCommand.self,
        ]
        #if BugBank
            return shipped + [BugBankCommand.self]
        #else
            return shipped
        #endif
    }

    /// Parses and runs; every failure becomes a message and one of the documented exit codes.
    static func main() async {
        // A peer or reader that hangs up is an error of that write, not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        if Bench.asksForHelp(Array(CommandLine.arguments.dropFirst())) {
            print(helpMessage(for: ClusterBench.self))
            return
        }
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            flushOutput()
        } catch {
            flushOutput()
            guard let failure = Failure(error) else { exit(withError: error) }
            if !failure.message.isEmpty { printError("ukehi: \(failure.message)") }
            leave(failure.status)
        }
    }
}

/// Ends the process; named apart from ArgumentParser's own `exit`.
private func leave(_ status: Int32) -> Never { exit(status) }

/// What `ukehi version` prints.
enum Version {
    static let text = "ukehi 0.1.0"
    /// Formats that this build reads and writes (docs/FORMATS.md).
    static let formats = [("log", 1), ("entry", 1), ("wire", 1), ("identity", 2), ("snapshot", 1)]
}

/// `ukehi version`.
struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Print the version and the formats it reads.")

    @Flag(help: "One JSON object.") var json = false

    func run() {
        if json {
            let formats = Version.formats.map { ($0.0, JSONValue.int($0.1)) }
            printLine(
                JSONValue.object([
                    ("version", .string(Version.text)), ("formats", .object(formats)),
                ]).text)
        } else {
            printLine(Version.text)
            printLine(
                "formats: " + Version.formats.map { "\($0.0) \($0.1)" }.joined(separator: ", "))
        }
    }
}
