// `ukehi bench snapshot`: what snapshots cost beside the store and the compression that they are made of.

import ArgumentParser
import Ukehi
import UkehiNode
import UkehiState

/// A number of bytes on the command line: 1048576, 64MiB, 1GiB.
struct ByteSize: ExpressibleByArgument {
    var bytes: Int

    init(bytes: Int) { self.bytes = bytes }

    init?(argument: String) {
        let units: [(String, Int)] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]
        let unit = units.first { argument.hasSuffix($0.0) } ?? ("", 1)
        guard let number = Int(argument.dropLast(unit.0.count)), number >= 0 else { return nil }
        let (bytes, isTooLarge) = number.multipliedReportingOverflow(by: unit.1)
        guard !isTooLarge else { return nil }
        self.bytes = bytes
    }

    var defaultValueDescription: String { byteText(UInt64(bytes)) }
}

/// Measures generation and installation beside their ceilings, and compares what comes out.
struct SnapshotBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshot",
        abstract: "Measure making and installing snapshots beside their ceilings; compare digests.",
        discussion: """
            Fills a state store with records of each size, then, --rounds times and in turns: reads \
            the store by itself (scan); makes a snapshot file, durable (made); compresses and \
            decompresses its frames by themselves (zstd, unzstd); builds the store's files of the \
            same records by itself (built); and installs the snapshot into an empty store, durable \
            (installed). Rates are of the records' bytes before compression. MADE / is its rate by \
            the slower of scan and zstd, INST / by the slower of built and unzstd: medians of the \
            rounds, and the least and the most; CPU is the same by the threads' own time, without waiting for \
            disk and other programs. A snapshot is made by two threads, as in a node: one reads, one \
            compresses and writes; CPU has the busier one. All else is one thread. Page cache warm. Exit code 1 if the \
            installed region's digest is not the source's.

            EXAMPLES
              ukehi bench snapshot
              ukehi bench snapshot --value-bytes 1024 --bytes 256MiB --rounds 5
              ukehi bench snapshot --json | jq '.rows[].made_ratio.median'
            """)

    @Option(help: "Keys and values of each run.") var bytes = ByteSize(bytes: 1 << 30)
    @Option(help: "Bytes of a value; a list (default: 128,1024,4096).")
    var valueBytes: LogBench.NumberList?
    @Option(help: "rocksdb or memory.") var state = BenchState.rocksdb
    @Option(help: "How often each size is measured.") var rounds = 3
    @Option(help: "The stores go into a fresh directory in this one (default: ./bench-data).")
    var dir: String?
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    private var settings: SnapshotBenchSettings {
        SnapshotBenchSettings(
            bytes: bytes.bytes, valueBytes: valueBytes?.values ?? [128, 1024, 4096],
            state: state, rounds: rounds, directory: dir)
    }

    func validate() throws {
        let problems = settings.problems
        if !problems.isEmpty {
            throw ValidationError("Nothing was started:\n  " + problems.joined(separator: "\n  "))
        }
    }

    func run() throws {
        let isJSON = json
        let say = { (line: String) in
            if isJSON {
                printError(line)
            } else {
                printLine(line)
                flushOutput()
            }
        }
        do {
            let report = try SnapshotBenchRun(settings: settings, say: say).run()
            printLine(isJSON ? report.json.text : report.table)
            guard !report.isVerified else { return }
            throw Failure(
                status: ExitStatus.failure,
                message: "verification failed: an installed region's digest is not its source's")
        } catch let error as BenchFileError {
            throw Failure(status: ExitStatus.ioFailed, message: error.description)
        } catch let error as StateError {
            throw NodeError(error)
        }
    }
}
