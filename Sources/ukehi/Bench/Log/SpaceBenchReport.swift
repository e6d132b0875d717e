// What `ukehi bench wal --space` found.

import UkehiWAL

/// A log's space over time.
struct SpaceBenchReport: Sendable {
    var settings: SpaceBenchSettings
    /// Before the load began.
    var atRest = LogSpace()
    var samples: [SpaceSample] = []
    var entries: UInt64 = 0
    var latencies = LatencySummary()
    /// Of all threads, while the load ran.
    var cpuSeconds = 0.0
    /// Of memory for the resting regions: while they have entries, and when they let go of them.
    var indexBytesWithEntries = 0
    var indexBytesAtRest = 0
    var difference: String?

    init(settings: SpaceBenchSettings) { self.settings = settings }

    private var segmentBytes: Int { settings.segmentMegabytes << 20 }

    /// The most after the first third of the time, when it has become steady.
    var worst: Double {
        samples.dropFirst(samples.count / 3).map { $0.amplification(segmentBytes) }.max() ?? 0
    }

    /// Of each byte written on behalf of others.
    var rewrittenShare: Double { samples.last.map(rewrittenShare(_:)) ?? 0 }

    private func rewrittenShare(_ sample: SpaceSample) -> Double {
        Double(sample.rewrittenBytes)
            / Double(max(sample.writtenBytes - min(sample.writtenBytes, sample.rewrittenBytes), 1))
    }

    var indexBytesWithEntriesPerRegion: Double {
        Double(indexBytesWithEntries) / Double(max(settings.restingRegions, 1))
    }
    var indexBytesAtRestPerRegion: Double {
        Double(indexBytesAtRest) / Double(max(settings.restingRegions, 1))
    }

    /// One sample for people.
    func line(_ sample: SpaceSample) -> String {
        let space = sample.space
        func mebibytes(_ bytes: Int) -> String { "\(bytes >> 20) MiB" }
        var line = BenchFormat.ratio(sample.seconds) + " s: \(space.segments) segments, "
        line += mebibytes(space.segmentBytes) + " and " + mebibytes(space.idleBytes) + " idle, "
        line += mebibytes(space.neededBytes) + " needed: "
        line += BenchFormat.ratio(sample.amplification(segmentBytes)) + "; "
        line += mebibytes(Int(sample.writtenBytes)) + " written, "
        return line + mebibytes(Int(sample.rewrittenBytes)) + " again"
    }

    var text: String {
        let last = samples.last ?? SpaceSample()
        let resting = BenchFormat.count(Double(settings.restingRegions))
        let count = BenchFormat.count(Double(entries))
        var lines = ["  \(resting) regions at rest, \(count) entries of others; p50 "]
        lines[0] += BenchFormat.time(latencies.p50) + ", p99 " + BenchFormat.time(latencies.p99)
        lines[0] += ", most " + BenchFormat.time(latencies.max) + "."
        lines.append("  Segments, the active one aside, for each byte that is needed: ")
        lines[1] += BenchFormat.ratio(worst) + " at most."
        lines.append("  Written again for each byte written: ")
        lines[2] += BenchFormat.ratio(rewrittenShare) + "."
        let each = last.purgeCPUSeconds * 1e6 / Double(max(last.steps, 1))
        lines.append("  Purging: \(last.steps) steps, ")
        lines[3] += BenchFormat.time(each) + " of a processor each, "
        lines[3] += BenchFormat.time(last.longestStepSeconds * 1e6) + " the longest; "
        lines[3] += BenchFormat.ratio(last.purgeCPUSeconds) + " s of "
        lines[3] += BenchFormat.ratio(cpuSeconds) + " s."
        lines.append("  Index: ")
        lines[4] += BenchFormat.ratio(indexBytesWithEntriesPerRegion)
        lines[4] += " bytes a region with entries, "
        lines[4] += BenchFormat.ratio(indexBytesAtRestPerRegion) + " when it has let go of them."
        lines.append(difference.map { "  WRONG: \($0)" } ?? "  Every region was as it was left.")
        return lines.joined(separator: "\n")
    }

    var json: JSONValue {
        var fields: [(String, JSONValue)] = [
            ("benchmark", .string("wal-space")), ("resting_regions", .int(settings.restingRegions)),
            ("appenders", .int(settings.row.appenders)), ("regions", .int(settings.row.regions)),
            ("entry_bytes", .int(settings.row.entryBytes)),
            ("segment_mb", .int(settings.segmentMegabytes)),
            ("has_lagging", .bool(settings.hasLagging)),
        ]
        fields += [
            ("entries", .int(Int(clamping: entries))), ("p50_us", .number(latencies.p50)),
            ("p99_us", .number(latencies.p99)), ("max_us", .number(latencies.max)),
            ("cpu_seconds", .number(cpuSeconds)), ("worst_amplification", .number(worst)),
            ("rewritten_per_written_byte", .number(rewrittenShare)),
        ]
        fields += [
            ("index_bytes_with_entries", .number(indexBytesWithEntriesPerRegion)),
            ("index_bytes_at_rest", .number(indexBytesAtRestPerRegion)),
            ("samples", .array(samples.map { json(of: $0) })),
            ("verified", .bool(difference == nil)),
            ("difference", difference.map { .string($0) } ?? .null),
        ]
        return .object(fields)
    }

    private func json(of sample: SpaceSample) -> JSONValue {
        .object([
            ("seconds", .number(sample.seconds)), ("segments", .int(sample.space.segments)),
            ("segment_bytes", .int(sample.space.segmentBytes)),
            ("idle_bytes", .int(sample.space.idleBytes)),
            ("needed_bytes", .int(sample.space.neededBytes)),
            ("amplification", .number(sample.amplification(segmentBytes))),
            ("written_bytes", .int(Int(clamping: sample.writtenBytes))),
            ("rewritten_bytes", .int(Int(clamping: sample.rewrittenBytes))),
            ("purge_steps", .int(sample.steps)),
            ("purge_cpu_seconds", .number(sample.purgeCPUSeconds)),
            ("longest_purge_step_seconds", .number(sample.longestStepSeconds)),
        ])
    }
}
