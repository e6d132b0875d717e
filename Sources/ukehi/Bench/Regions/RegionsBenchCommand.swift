// `ukehi bench regions`: how quickly do very many regions come to be, and what do they cost?

import ArgumentParser

/// Divides one region into thousands.
struct RegionsBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "regions",
        abstract:
            "Divide one region into thousands; measure how long that takes and what they cost.",
        discussion: """
            Starts --nodes nodes in this process with real fsync and one region, puts a key for each region \
            that is to be, and divides until there are --regions, up to 64 new ones by a command. Then nobody \
            asks for anything for --idle-seconds: what the process still needs is what idle regions cost. At \
            the end the regions must cover the key space once on every node, each takes a write, every key is \
            read back and the digests of all replicas are compared: exit code 1 if anything is wrong.

            Each region's leader sends heartbeats of its own: with ten thousand regions and the default \
            interval of 100 ms that is 200,000 messages a second, and as many answers.

            EXAMPLES
              ukehi bench regions
              ukehi bench regions --regions 1000 --heartbeat-ms 100
              ukehi bench regions --json | jq '.seconds, .kib_per_region_and_node'
            """)

    @Option(help: "Regions at the end.") var regions = 10_000
    @Option(help: "Nodes in this process.") var nodes = 3
    @Option(
        help: ArgumentHelp(
            "Milliseconds between a leader's heartbeats; the election timeout is ten times that, at least "
                + "1000.", valueName: "ms"))
    var heartbeatMs = RegionsSettings().heartbeatMilliseconds
    @Option(help: "Seconds without work in which the processor time is measured.")
    var idleSeconds = 10.0
    @Option(help: "rocksdb or memory.") var state = BenchState.rocksdb
    @Option(help: "The nodes go into a fresh directory in this one (default: ./bench-data).")
    var dir: String?
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    private var settings: RegionsSettings {
        RegionsSettings(
            regions: regions, nodes: nodes, state: state, idleSeconds: idleSeconds,
            heartbeatMilliseconds: heartbeatMs, directory: dir)
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
            let report = try await RegionsRun(settings: settings, say: say).run()
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
