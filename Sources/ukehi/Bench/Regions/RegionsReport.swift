// What a run of `ukehi bench regions` found.

import Ukehi

/// A run's findings.
struct RegionsReport: Sendable {
    let settings: RegionsSettings
    /// From the first request to divide until every node had every region and each of them served.
    var seconds = 0.0
    var commands = 0
    /// Of the process, before and after, in MiB: all nodes together.
    var residentBefore = 0.0
    var residentAfter = 0.0
    /// CPU seconds of the process while it made them.
    var cpuSeconds = 0.0
    /// CPU seconds a second, when nobody asks for anything any more.
    var idleCPU = 0.0
    /// From a command's arrival until all its regions served.
    var serve = SplitTimes([])
    /// Regions that each node leads at the end.
    var led: [Int] = []
    var verification = VerificationResult(summary: "not verified")

    var regionsPerSecond: Double { Double(settings.regions - 1) / max(seconds, 1e-9) }
    /// KiB of memory for a peer.
    var kibibytesPerPeer: Double {
        (residentAfter - residentBefore) * 1024 / Double(max(settings.regions * settings.nodes, 1))
    }

    var json: JSONValue {
        .object([
            ("regions", .int(settings.regions)), ("nodes", .int(settings.nodes)),
            ("seconds", .number(seconds)), ("regions_per_second", .number(regionsPerSecond)),
            ("commands", .int(commands)), ("serve_ms", serve.json),
            ("cpu_seconds", .number(cpuSeconds)),
            ("resident_before_mb", .number(residentBefore)),
            ("resident_after_mb", .number(residentAfter)),
            ("kib_per_region_and_node", .number(kibibytesPerPeer)),
            ("idle_cpu", .number(idleCPU)), ("idle_seconds", .number(settings.idleSeconds)),
            ("heartbeat_interval_ms", .int(settings.heartbeatMilliseconds)),
            ("led_by_node", .array(led.map { .int($0) })),
            ("state", .string(settings.state.rawValue)),
            ("verified", .bool(verification.difference == nil)),
            ("verified_by", .string(verification.summary)),
            ("difference", verification.difference.map { .string($0) } ?? .null),
        ])
    }

    var table: String {
        func row(_ name: String, _ text: String) -> String {
            "  " + name + String(repeating: " ", count: max(1, 12 - name.count)) + text
        }
        let count = BenchFormat.count(Double(settings.regions))
        return [
            "",
            "  \(count) regions from one, on \(settings.nodes) nodes in one process, state "
                + "\(settings.state.rawValue), real fsync",
            row(
                "made in",
                "\(BenchFormat.fixed(seconds, 1)) s: \(BenchFormat.count(regionsPerSecond)) regions/s by "
                    + "\(commands) commands; \(BenchFormat.fixed(cpuSeconds, 1)) CPU seconds"),
            row("a command", "from its arrival until all its regions served: \(serve.text)"),
            row(
                "memory",
                "\(BenchFormat.count(residentBefore)) MiB before, \(BenchFormat.count(residentAfter)) "
                    + "MiB after: \(BenchFormat.ratio(kibibytesPerPeer)) KiB for a region and node"),
            row(
                "idle",
                "\(BenchFormat.ratio(idleCPU)) CPU seconds a second with nothing asked (heartbeats every "
                    + "\(settings.heartbeatMilliseconds) ms)"),
            row("leaders", led.map { BenchFormat.count(Double($0)) }.joined(separator: " / ")),
            row(
                verification.difference == nil ? "verified" : "WRONG",
                verification.difference ?? verification.summary),
            "",
        ].joined(separator: "\n")
    }
}

/// One run.
struct RegionsSettings: Sendable {
    var regions = 10_000
    var nodes = 3
    var state = BenchState.rocksdb
    var idleSeconds = 10.0
    var heartbeatMilliseconds = 100
    /// Where the fresh directory goes; nil: `./bench-data`.
    var directory: String?

    /// What is impossible, all of it at once.
    var problems: [String] {
        var problems: [String] = []
        if !(2...100_000).contains(regions) { problems.append("--regions must be 2 to 100000") }
        if !(1...9).contains(nodes) { problems.append("--nodes must be 1 to 9") }
        if state == .none { problems.append("--state must be rocksdb or memory") }
        if !(idleSeconds > 0 && idleSeconds <= 3600) {
            problems.append("--idle-seconds must be above 0, at most 3600")
        }
        if !(10...6000).contains(heartbeatMilliseconds) {
            problems.append("--heartbeat-ms must be 10 to 6000")
        }
        return problems
    }

    /// As the cluster and the clients are told.
    func bench(_ mix: OperationMix) -> BenchSettings {
        var bench = BenchSettings(mix: mix)
        bench.nodes = nodes
        bench.regions = 1
        bench.keys = regions
        bench.clients = 256
        bench.valueBytes = 32
        bench.workload = .hotRange  // For the order of its keys alone.
        bench.state = state
        let heartbeat = heartbeatMilliseconds
        bench.configure = { configuration in
            configuration.raft.heartbeatIntervalMilliseconds = heartbeat
            configuration.raft.electionTimeoutMilliseconds = max(
                configuration.raft.electionTimeoutMilliseconds, heartbeat * 10)
        }
        return bench
    }
}
