// `ukehi bench move`: what moving a region costs those who use it.

import ArgumentParser

/// Moves a filled region to another node under load.
struct MoveBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "move",
        abstract:
            "Move a large region to another node under load; measure what that costs the load.",
        discussion: """
            Starts four nodes in this process with real fsync, has three of them hold one region, fills \
            it with --bytes, and lets --clients closed-loop clients use it all the time: throughput is \
            measured for --duration seconds, then while one of its peers is replaced by one on the \
            fourth node (by a snapshot, then the log), then for --duration seconds again. At the end \
            every written key is read back and the digests of the three peers are compared: exit code \
            1 if anything is wrong.

            The fourth node runs here, too: what it does for the move takes its processor time from \
            the same load.

            EXAMPLES
              ukehi bench move
              ukehi bench move --bytes 256MiB --read-ratio 0.5
              ukehi bench move --json | jq '.ratio'
            """)

    @Option(help: "Keys and values of the region.") var bytes = ByteSize(bytes: 1 << 30)
    @Option(help: "Bytes of a value.") var valueBytes = 1024
    @Option(help: "Share of reads, 0 to 1.") var readRatio = 0.0
    @Option(help: "Closed-loop clients.") var clients = 256
    @Option(help: "Seconds measured before the move, and after it.") var duration = 10.0
    @Option(help: "rocksdb or memory.") var state = BenchState.rocksdb
    @Option(help: "The nodes go into a fresh directory in this one (default: ./bench-data).")
    var dir: String?
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    private var settings: MoveSettings {
        MoveSettings(
            bytes: bytes.bytes, valueBytes: valueBytes, readRatio: readRatio, clients: clients,
            state: state, durationSeconds: duration, directory: dir)
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
            let report = try await MoveRun(settings: settings, say: say).run()
            printLine(isJSON ? report.json.text : report.table)
            guard let difference = report.verification.difference else { return }
            throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
        } catch let error as BenchFailure {
            throw Failure(status: ExitStatus.failure, message: error.description)
        } catch let error as BenchFileError {
            throw Failure(status: ExitStatus.ioFailed, message: error.description)
        }
    }
}
