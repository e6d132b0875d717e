// `ukehi bench failover`: how long is a cluster without its leader unable to write?

import ArgumentParser

/// Kills leading nodes again and again, and measures until writes go on.
struct FailoverBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "failover",
        abstract: "Kill leading nodes; measure until writes go on; verify that none was lost.",
        discussion: """
            Starts --nodes processes of `ukehi serve` on this machine with default timeouts, each with \
            its own directory and real fsync. Clients write new keys to every region all the time. \
            Each round takes the next region, kills (SIGKILL) the node that leads it, and measures from \
            just before the kill to the first acknowledged write to that region that began after it \
            (recovery_ms), and until every region has had one (every_region_ms). Then the node is \
            started again, and the next round waits until every region has a leader and every node has \
            applied what was written meanwhile. At the end every key is read: exit code 1 if an \
            acknowledged write is missing.

            Takes about three seconds a kill.

            EXAMPLES
              ukehi bench failover
              ukehi bench failover --kills 50 --json
              ukehi bench failover --nodes 5 --state memory
            """)

    @Option(help: "How often a leading node is killed.") var kills = 20
    @Option(help: "Nodes, each a process.") var nodes = 3
    @Option(help: "rocksdb or memory.") var state = BenchState.rocksdb
    @Option(
        help: "Where the nodes' directories go, and stay (default: a fresh one in ./bench-data).")
    var dataDir: String?
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    private var settings: FailoverSettings {
        FailoverSettings(kills: kills, nodes: nodes, state: state, directory: dataDir)
    }

    func validate() throws {
        let problems = settings.problems
        if !problems.isEmpty {
            throw ValidationError("Nothing was started:\n  " + problems.joined(separator: "\n  "))
        }
    }

    func run() async throws {
        let isJSON = json
        let say = { @Sendable (line: String) in
            if isJSON {
                printError(line)
            } else {
                printLine(line)
                flushOutput()
            }
        }
        do {
            let report = try await FailoverRun(settings: settings, say: say).run()
            printLine(isJSON ? report.json.text : report.table)
            guard let difference = report.difference else { return }
            throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
        } catch let error as BenchFailure {
            throw Failure(status: ExitStatus.failure, message: error.description)
        } catch let error as BenchFileError {
            throw Failure(status: ExitStatus.ioFailed, message: error.description)
        }
    }
}
