// What a run found, and its one JSON object.

/// Counters of one node's log.
struct LogCounters: Equatable, Sendable {
    var fsyncs: UInt64 = 0
    var bytesWritten: UInt64 = 0

    static func - (a: LogCounters, b: LogCounters) -> LogCounters {
        LogCounters(fsyncs: a.fsyncs &- b.fsyncs, bytesWritten: a.bytesWritten &- b.bytesWritten)
    }
}

/// How a run was checked when its load had ended.
struct VerificationResult: Equatable, Sendable {
    /// What was compared, for the `verified` field and line.
    var summary: String
    /// The first difference; nil: none was found.
    var difference: String?
    /// Keys read back.
    var keysRead = 0
    /// Regions whose replicas' digests were compared.
    var regionsCompared = 0
}

/// One run's findings.
struct BenchReport: Sendable {
    var settings: BenchSettings
    /// Length of the measured part.
    var seconds: Double
    /// When it began, by the benchmark's clock.
    var startedAt: UInt64 = 0
    var samples: [TimelineSample] = []
    /// Of the nodes' whole life, if they are ours.
    var splits: [SplitEvent] = []
    /// Nil: nobody could be asked.
    var regionsAtEnd: Int?
    var writes = LatencySummary()
    var reads = LatencySummary()
    /// Puts, deletes and compare-and-sets among the writes whose condition held.
    var failedConditions: UInt64 = 0
    /// Operations sent again after a refusal; their latency counts from the first try.
    var retries: UInt64 = 0
    /// Operations whose outcome the client never learned.
    var unknownOutcomes: UInt64 = 0
    /// Clients whose node led nothing when the measured part ended, and the longest they had waited,
    /// in microseconds: waiting that no answered operation shows.
    var starvedClients = 0
    var longestStarvedMicroseconds = 0.0
    /// Of an open loop, and of the closed one before it if its peak was asked for.
    var offeredPerSecond: Double?
    var peakPerSecond: Double?
    /// Per node; empty when the nodes are not ours.
    var logs: [LogCounters] = []
    var cpuSeconds = 0.0
    var residentMegabytes = 0.0
    var disk: DiskCeiling?
    /// Regions that hold at least one of the load's keys.
    var regionsInUse = 0
    var verification = VerificationResult(summary: "not verified")

    var writesPerSecond: Double { Double(writes.count) / max(seconds, 1e-9) }
    var readsPerSecond: Double { Double(reads.count) / max(seconds, 1e-9) }
    var isVerified: Bool { verification.difference == nil }

    /// Mean over the nodes.
    var fsyncsPerSecond: Double {
        guard !logs.isEmpty else { return 0 }
        return Double(logs.reduce(0) { $0 + $1.fsyncs }) / Double(logs.count) / max(seconds, 1e-9)
    }
    /// Acknowledged writes per fsync of one node.
    var writesPerFsync: Double { fsyncsPerSecond > 0 ? writesPerSecond / fsyncsPerSecond : 0 }
    /// Log bytes of one node per acknowledged write.
    var bytesPerWrite: Double {
        guard !logs.isEmpty, writes.count > 0 else { return 0 }
        return Double(logs.reduce(0) { $0 + $1.bytesWritten }) / Double(logs.count)
            / Double(writes.count)
    }
    var cpuSecondsPerMillion: Double {
        let operations = writes.count + reads.count
        return operations > 0 ? cpuSeconds / Double(operations) * 1e6 : 0
    }

    /// What an acknowledgement means.
    var durability: String {
        if !settings.endpoints.isEmpty { return "as the driven cluster is configured" }
        return settings.isSynced
            ? "fsync before every acknowledgement, on a quorum of \(settings.nodes / 2 + 1) of "
                + "\(settings.nodes)"
            : "UNSAFE: no fsync, a power cut loses acknowledged writes"
    }

    /// The values that were written.
    var valuesDescription: String {
        settings.input == nil ? ValueGenerator.compressibility : "from the input file"
    }

    /// What was done, in a few words.
    var title: String {
        settings.workload?.summary(settings.hotRange)
            ?? "every client its own node's keys, all alike"
    }

    /// Throughput and latency over time, as an SVG file.
    var picture: String {
        VectorPlot(
            title: "ukehi bench, \(title)", subtitle: headline, samples: samples, splits: splits
        ).text
    }

    /// The whole report as one object.
    var json: JSONValue { .object(load + process + overTime + outcome) }

    private var load: [(String, JSONValue)] {
        [
            ("writes_per_second", .number(writesPerSecond)),
            ("reads_per_second", .number(readsPerSecond)),
            ("offered_per_second", offeredPerSecond.map { .number($0) } ?? .null),
            ("peak_per_second", peakPerSecond.map { .number($0) } ?? .null),
            ("seconds", .number(seconds)),
            ("writes", .int(Int(writes.count))),
            ("reads", .int(Int(reads.count))),
            (
                "latency_us",
                .object([("writes", writes.json), ("reads", reads.json)])
            ),
        ]
    }

    private var process: [(String, JSONValue)] {
        [
            ("fsyncs_per_second", .number(fsyncsPerSecond)),
            (
                "fsyncs_per_second_by_node",
                .array(logs.map { .number(Double($0.fsyncs) / max(seconds, 1e-9)) })
            ),
            ("writes_per_fsync", .number(writesPerFsync)),
            ("bytes_written_per_write", .number(bytesPerWrite)),
            ("cpu_seconds_per_million_operations", .number(cpuSecondsPerMillion)),
            ("resident_mb", .number(residentMegabytes)),
            ("failed_conditions", .int(Int(failedConditions))),
            ("retries", .int(Int(retries))),
            ("unknown_outcomes", .int(Int(unknownOutcomes))),
            ("starved_clients", .int(starvedClients)),
            ("longest_starved_us", .number(longestStarvedMicroseconds)),
        ]
    }

    /// What became of the regions, and of the load meanwhile.
    private var overTime: [(String, JSONValue)] {
        [
            ("regions", regionsAtEnd.map { .int($0) } ?? .null),
            // Those of other processes are theirs to tell.
            ("splits", settings.endpoints.isEmpty ? .array(splits.map(\.json)) : .null),
            (
                "split_times_ms",
                .object([
                    ("serve", splits.serveTimes.json), ("pause", splits.pauseTimes.json),
                    ("held", splits.heldTimes.json),
                ])
            ),
            ("throughput_over_time", .array(samples.map(\.json))),
        ]
    }

    private var outcome: [(String, JSONValue)] {
        [
            ("verified", .bool(isVerified)),
            ("verified_by", .string(verification.summary)),
            ("difference", verification.difference.map { .string($0) } ?? .null),
            ("durability", .string(durability)),
            ("disk", disk?.json ?? .null),
            ("ratios", ratios),
            ("settings", settings.json),
        ]
    }

    private var ratios: JSONValue {
        guard let disk, disk.fdatasyncPerSecond > 0 else { return .null }
        return .object([
            ("writes_to_fdatasync", .number(writesPerSecond / disk.fdatasyncPerSecond)),
            ("write_p50_to_fdatasync_p50", .number(writes.p50 / disk.fdatasyncP50Microseconds)),
        ])
    }
}

extension LatencySummary {
    fileprivate var json: JSONValue {
        .object([
            ("p50", .number(p50)), ("p90", .number(p90)), ("p99", .number(p99)),
            ("p999", .number(p999)), ("max", .number(max)),
        ])
    }
}

extension DiskCeiling {
    fileprivate var json: JSONValue {
        .object([
            ("fdatasync_per_second", .number(fdatasyncPerSecond)),
            ("fdatasync_p50_us", .number(fdatasyncP50Microseconds)),
            ("sequential_mb_per_second", .number(sequentialMegabytesPerSecond)),
        ])
    }
}

extension BenchSettings {
    fileprivate var json: JSONValue {
        .object([
            ("nodes", endpoints.isEmpty ? .int(nodes) : .null),
            ("regions", endpoints.isEmpty ? .int(regions) : .null),
            ("clients", .int(clients)),
            ("client_mode", .string(clientMode.rawValue)),
            ("workload", workload.map { .string($0.rawValue) } ?? .null),
            (
                "hot_range",
                workload == .hotRange
                    ? .object([
                        ("operations", .number(hotRange.operations)),
                        ("keys", .number(hotRange.keys)),
                    ]) : .null
            ),
            ("rate", rate.map { .string($0.text) } ?? .null),
            ("key_size", input == nil ? .int(keyBytes) : .null),
            ("value_size", input == nil ? .int(valueBytes) : .null),
            ("keys", input == nil ? .int(keys) : .null),
            (
                "mix",
                .object(zip(OperationKind.allCases, mix.weights).map { ($0.rawValue, .int($1)) })
            ),
            ("read_mode", .string(readMode.rawValue)),
            ("duration_seconds", .number(durationSeconds)),
            ("warm_up_seconds", .number(warmUpSeconds)),
            ("state", endpoints.isEmpty ? .string(state.rawValue) : .null),
            ("fsync", endpoints.isEmpty ? .bool(isSynced) : .null),
            ("endpoints", .array(endpoints.map { .string($0) })),
            ("input", input.map { .string($0) } ?? .null),
            ("ack_log", .bool(ackLog != nil)),
            ("history", .bool(history != nil)),
            ("seed", .int(Int(truncatingIfNeeded: seed))),
        ])
    }
}
