// `ukehi bench splits`: how long is a range without service when it is divided?

import ArgumentParser

/// Divides regions under load.
struct SplitsBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "splits",
        abstract: "Split regions under load; measure how long that takes and holds writes up.",
        discussion: """
            Starts --nodes nodes in this process with real fsync and one region, puts --keys keys, and lets \
            --clients closed-loop clients write all the time. Meanwhile --splits splits are asked for, evenly \
            over --duration seconds, each at the middle of the region that has most keys. Afterwards every \
            written key is read back and the replicas are compared: exit code 1 if anything is wrong.

            Of each split the node that led it tells when the request came, when the command went into the log, \
            when it was applied, and when every new region had committed an entry of its own. From the first to \
            the last is the time to service; from the third to the last no write of a new range is \
            acknowledged: the pause. A write right behind the command waits from the second to the last.

            EXAMPLES
              ukehi bench splits
              ukehi bench splits --splits 500 --clients 64 --read-ratio 0.5
              ukehi bench splits --workload zipf --plot splits.svg
              ukehi bench splits --rate 50%
              ukehi bench splits --json | jq '.split_times_ms'
            """)

    @Option(help: "Splits.") var splits = 120
    @Option(help: "Keys, put before.") var keys = 1_000_000
    @Option(help: "Closed-loop clients, over all nodes.") var clients = 256
    @Option(help: "Nodes in this process.") var nodes = 3
    @Option(help: "Measured seconds.") var duration = 30.0
    @Option(
        help: ArgumentHelp(
            "Operations a second, or a share of the peak; without it clients are as fast as they can.",
            valueName: "rate"))
    var rate: String?
    @Option(help: "Bytes of a value.") var valueSize = 128
    @Option(help: "Share of reads, 0 to 1.") var readRatio = 0.0
    @Option(
        help: ArgumentHelp("How keys are used, as of ukehi bench.", valueName: "workload"))
    var workload = WorkloadKind.uniform
    @Option(help: "rocksdb or memory.") var state = BenchState.rocksdb
    @Option(
        help: ArgumentHelp(
            "An SVG file of throughput and latency over time, splits marked.", valueName: "file"))
    var plot: String?
    @Flag(help: "Print one JSON object instead of the table; progress goes to stderr.")
    var json = false

    private func settings() throws -> BenchSettings {
        guard let mix = workload.mix ?? OperationMix(readRatio: readRatio),
            workload.mix == nil || readRatio == 0
        else {
            throw ValidationError(
                "Nothing was started: --read-ratio is 0 to 1, and not for ycsb workloads.")
        }
        var settings = BenchSettings(mix: mix)
        settings.nodes = nodes
        settings.regions = 1
        settings.splits = splits
        settings.keys = keys
        settings.clients = clients
        settings.durationSeconds = duration
        settings.valueBytes = valueSize
        settings.rate = try OfferedRate.parse(rate)
        settings.workload = workload
        settings.state = state
        settings.plot = plot
        settings.isJSON = json
        return settings
    }

    func validate() throws {
        let problems = BenchSettings.problems(try settings())
        if !problems.isEmpty {
            throw ValidationError("Nothing was started:\n  " + problems.joined(separator: "\n  "))
        }
    }

    func run() async throws { try await ClusterBench.run(try settings()) }
}
