// `ukehi bench cluster`, which `ukehi bench` alone means, too: how fast is a cluster here, and is what
// it acknowledged really there?

import ArgumentParser
import Ukehi

/// Puts a cluster under load, measures it beside the bare disk, and verifies what it acknowledged.
struct ClusterBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "Measure a cluster here, beside its disk, and verify what it acknowledged.",
        discussion: """
            Starts --nodes nodes in this process, connected over loopback TCP, each with its own \
            directory, real fsync and its share of --clients closed-loop clients: a client wants its \
            next operation the moment the last one is answered, and latency counts from there, over \
            all retries. Afterwards every written key is read back and the replicas are compared; \
            exit code 1 and the first difference if anything is wrong.

            With --workload keys are drawn from all keys, by every client, and each operation goes to the \
            node that leads its key's region: uniform; zipf (constant 0.99 as YCSB's, scrambled: hot keys \
            lie anywhere); hot-range (--hot-operations of the operations on --hot-keys of the keys, side by \
            side); sequential (ever-growing keys at the end of the key space, from all clients at once); \
            ycsb-a, -b, -c, -f (zipf; half updates; 5 % updates; reads only; half read-modify-writes by \
            compare-and-set, whose latency counts from the read). A table of throughput, latency, regions and \
            leaders runs along in a terminal; at the end there is a plot of it, with every split of a region, \
            and --plot makes one of its own.

            `ukehi bench` alone means this. `ukehi bench wal` measures one node's log by itself, \
            `ukehi bench failover` how long a cluster is without its leader, `ukehi bench snapshot` \
            snapshots beside the store and the compression that they are made of, `ukehi bench move` \
            what moving a region costs those who use it, `ukehi bench regions` ten thousand regions, `ukehi \
            bench splits` how long a range is without service when it is divided.

            EXAMPLES
              ukehi bench                                  three nodes, RocksDB, 128-byte values
              ukehi bench --state none --clients 4096      the replicated log alone
              ukehi bench --clients 1                      latency of a lone write
              ukehi bench --rate 50%                       latency at half of the peak load
              ukehi bench --read-ratio 0.9                 mostly reads, linearizable
              ukehi bench --workload ycsb-a                YCSB's update-heavy workload
              ukehi bench --workload hot-range --hot-keys 0.001 --plot hot.svg
              ukehi bench --workload sequential --regions 1 --duration 60 --plot growing.svg
              ukehi bench --workload hot-range --regions 3 --split-load 5000     watch it being divided
              ukehi bench --client-mode async              Swift tasks instead of callbacks
              ukehi bench --keys 100 --mix get=50,put=40,cas=8,delete=2 --history ops.jsonl
              ukehi bench --endpoint host1:7878,host2:7878,host3:7878
              ukehi bench --input records.tsv --json
              ukehi bench wal                              the log alone, beside the bare disk
              ukehi bench failover --kills 50              from kill -9 to the next write
              ukehi bench snapshot                         making and installing snapshots
              ukehi bench move                             a region that moves under load
              ukehi bench regions                          10,000 regions from one
              ukehi bench splits                           a hundred splits under load
            """)

    @Option(help: "Nodes in this process.") var nodes = 3
    @Option(help: "Regions to start with.") var regions = 48
    @Option(help: "Closed-loop clients, over all nodes.") var clients = 1024
    @Option(
        help: ArgumentHelp(
            "Operations a second, or a share of what the clients reach by themselves, measured first, as "
                + "50%: an open loop, where latency counts from when an operation was due.",
            valueName: "rate"))
    var rate: String?
    @Option(help: "callback: replies on the node's lane; async: Swift tasks.")
    var clientMode = BenchClientMode.callback
    @Option(
        help: ArgumentHelp(
            "How keys are used: uniform, zipf, hot-range, sequential, ycsb-a, ycsb-b, ycsb-c or ycsb-f "
                + "(default: each client the keys that its own node leads, all alike).",
            valueName: "workload"))
    var workload: WorkloadKind?
    @Option(help: "hot-range: the share of the operations.") var hotOperations = HotKeys()
        .operations
    @Option(help: "hot-range: the share of the keys that they are on.")
    var hotKeys = HotKeys().keys
    @Option(
        help: ArgumentHelp(
            "A region with more operations a second than this is divided; 0: never (default: with "
                + "--workload as a node does, else never).",
            valueName: "operations"))
    var splitLoad: Int?
    @Option(
        help: ArgumentHelp(
            "A region larger than this is divided (default: as a node does).", valueName: "MiB"))
    var splitMB: Int?
    @Option(
        help: ArgumentHelp(
            "An SVG file of throughput and latency over time, splits marked.", valueName: "file"))
    var plot: String?
    @Option(help: "Bytes of a key.") var keySize = 16
    @Option(help: "Bytes of a value.") var valueSize = 128
    @Option(
        help:
            "Distinct keys (default: 1000000; 100000 if anything is read; 20000000 if sequential).")
    var keys: Int?
    @Option(help: "Share of reads, 0 to 1.") var readRatio = 0.0
    @Option(
        help:
            "Instead of --read-ratio: weights, as get=50,put=40,cas=8,delete=2; modify is a read-modify-write."
    )
    var mix: String?
    @Option(help: "linearizable, lease or stale.") var readMode = BenchReadMode.linearizable
    @Option(help: "Measured seconds.") var duration = 10.0
    @Option(help: "Seconds of load before the measured part.") var warmUp = 1.0
    @Option(help: "rocksdb, memory or none (nothing is applied; verified by log digests).")
    var state = BenchState.rocksdb
    @Option(
        help: "Where the nodes' directories go, and stay (default: a fresh one in ./bench-data).")
    var dataDir: String?
    @Flag(help: "Keep the fresh directory.") var keep = false
    @Flag(help: "Acknowledge without fsync: a power cut loses writes. For comparison only.")
    var unsafeNoFsync = false
    @Option(
        help: ArgumentHelp(
            "One line per acknowledged write: CLOCK_MONOTONIC ns, operation id, key, FNV-1a 64 of "
                + "the value; separated by TAB.", valueName: "file"))
    var ackLog: String?
    @Option(
        help: ArgumentHelp(
            "One JSON object per operation, for linearizability checkers.", valueName: "file"))
    var history: String?
    @Option(
        help: ArgumentHelp(
            "Drive a running cluster instead: HOST:PORT of its nodes, separated by commas.",
            valueName: "endpoints"))
    var endpoint: String?
    @Option(
        help: ArgumentHelp(
            "Replay key<TAB>value lines instead of generated data; - for standard input.",
            valueName: "file"))
    var input: String?
    @Option(help: "Seed of keys and mix.") var seed: UInt64 = 1
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    func validate() throws {
        let problems = BenchSettings.problems(try settings())
        if !problems.isEmpty {
            throw ValidationError("Nothing was started:\n  " + problems.joined(separator: "\n  "))
        }
    }

    /// The options as settings; throws what has no meaning at all.
    private func settings() throws -> BenchSettings {
        if mix != nil && readRatio != 0 {
            throw ValidationError("Nothing was started: give --read-ratio or --mix, not both.")
        }
        let isFixed = workload?.mix != nil
        if isFixed && (mix != nil || readRatio != 0) {
            throw ValidationError(
                "Nothing was started: ycsb workloads say what is read: drop --read-ratio and --mix."
            )
        }
        guard
            let mix = workload?.mix ?? mix.map(OperationMix.init(parsing:))
                ?? OperationMix(readRatio: readRatio)
        else {
            throw ValidationError(
                "Nothing was started: --read-ratio is 0 to 1; --mix is weights of get, put, cas, "
                    + "delete and modify, as get=50,put=50.")
        }
        var settings = BenchSettings(mix: mix)
        settings.nodes = nodes
        settings.regions = regions
        settings.clients = clients
        settings.clientMode = clientMode
        settings.rate = try OfferedRate.parse(rate)
        settings.keyBytes = keySize
        settings.valueBytes = valueSize
        settings.keys =
            keys ?? (workload == .sequential ? 20_000_000 : mix.reads ? 100_000 : 1_000_000)
        settings.workload = workload
        settings.hotRange = HotKeys(operations: hotOperations, keys: hotKeys)
        settings.plot = plot
        // Without a workload regions stay as they are, unless that is asked for.
        let isStill = workload == nil && splitMB == nil
        let (splitLoad, splitMB) = (splitLoad ?? (workload == nil ? 0 : nil), splitMB)
        guard splitLoad ?? 0 >= 0, splitMB ?? 16 >= 16 else {
            throw ValidationError(
                "Nothing was started: --split-load is 0 or more, --split-mb 16 or more.")
        }
        settings.configure = { configuration in
            if let splitLoad { configuration.sharding.splitLoadPerSecond = splitLoad }
            if isStill { configuration.sharding.splitThresholdMegabytes = 1 << 20 }
            if let splitMB {
                configuration.sharding.splitThresholdMegabytes = splitMB
                configuration.sharding.mergeThresholdMegabytes = max(1, splitMB / 8)
            }
        }
        settings.readMode = readMode
        settings.durationSeconds = duration
        settings.warmUpSeconds = warmUp
        settings.state = state
        settings.dataDirectory = dataDir
        settings.keepsData = keep
        settings.isSynced = !unsafeNoFsync
        settings.ackLog = ackLog
        settings.history = history
        settings.endpoints =
            endpoint?.split(separator: ",").map { String($0) } ?? []
        if endpoint != nil && settings.endpoints.isEmpty {
            throw ValidationError("Nothing was started: --endpoint names no HOST:PORT.")
        }
        settings.input = input
        settings.seed = seed
        settings.isJSON = json
        return settings
    }

    func run() async throws { try await Self.run(try settings()) }

    /// Carries a run out and prints what it found.
    static func run(_ settings: BenchSettings) async throws {
        do {
            let report = try await BenchRun(settings: settings).run()
            printLine(settings.isJSON ? report.json.text : report.table)
            guard let difference = report.verification.difference else { return }
            throw Failure(status: ExitStatus.failure, message: "verification failed: \(difference)")
        } catch let error as BenchFailure {
            throw Failure(status: ExitStatus.failure, message: error.description)
        } catch let error as BenchFileError {
            throw Failure(status: ExitStatus.ioFailed, message: error.description)
        }
    }
}

extension BenchState: ExpressibleByArgument {}
extension BenchClientMode: ExpressibleByArgument {}
extension BenchReadMode: ExpressibleByArgument {}
extension WorkloadKind: ExpressibleByArgument {}
