// What `ukehi bench wal` found: a table for people, one JSON object for machines.

import UkehiBase
import UkehiWAL

/// One row's findings, with the bare disk's beside them.
struct LogBenchResult: Sendable {
    var row: LogBenchRow
    var seconds = 0.0
    var entries: UInt64 = 0
    var latencies = LatencySummary()
    var syncs: UInt64 = 0
    var frames: UInt64 = 0
    /// Of frames, padding included.
    var frameBytes: UInt64 = 0
    /// To the device, by the whole process: frames, and zeros ahead of them.
    var deviceBytes: UInt64 = 0
    var cpuSeconds = 0.0
    /// Of bodies, as stored and as they were.
    var bodyBytes: UInt64 = 0
    var rawBodyBytes: UInt64 = 0
    /// The bare disk's, in turns with the row: blocks one at a time; the row's mean frame one at a time,
    /// and as many as the log may have in flight.
    var raw = RawWrites(bytes: 4096)
    var rawFrames = RawWrites(bytes: 4096)
    var rawDeep = RawWrites(bytes: 4096)
    /// States and entries written again so that segments could go.
    var rewrittenBytes: UInt64 = 0
    /// Segments begun, and of them those in files of dead ones.
    var segmentsBegun: UInt64 = 0
    var segmentsReused: UInt64 = 0
    /// Of the scheduler's work in all turns.
    var histograms: LogHistograms?
    /// The first thing found wrong; nil: all that was acknowledged was there again.
    var difference: String?

    init(row: LogBenchRow, framesInFlight: Int = 1, difference: String? = nil) {
        self.row = row
        self.difference = difference
        rawDeep.depth = framesInFlight
    }

    /// Adds what was counted from one moment to another.
    mutating func add(from before: Snapshot, to after: Snapshot) {
        if let histograms {
            for (sum, (new, old)) in zip(
                histograms.all, zip(after.log.histograms.all, before.log.histograms.all))
            {
                new.counts.subtract(old.counts)
                sum.counts.add(new.counts)
            }
        } else {
            histograms = after.log.histograms
            for (new, old) in zip(after.log.histograms.all, before.log.histograms.all) {
                new.counts.subtract(old.counts)
            }
        }
        seconds += Double(after.time - before.time) / 1e9
        entries += after.entries - before.entries
        syncs += after.log.syncs - before.log.syncs
        frames += after.log.frames - before.log.frames
        frameBytes += after.log.bytesWritten - before.log.bytesWritten
        deviceBytes += after.deviceBytes - before.deviceBytes
        bodyBytes += after.log.bodyBytes - before.log.bodyBytes
        rawBodyBytes += after.log.rawBodyBytes - before.log.rawBodyBytes
        rewrittenBytes +=
            after.log.rewrittenBytes + after.log.carriedBytes - before.log.rewrittenBytes
            - before.log.carriedBytes
        segmentsBegun += after.log.segmentsActivated - before.log.segmentsActivated
        segmentsReused += after.log.segmentsReused - before.log.segmentsReused
        cpuSeconds += after.usage.cpuSeconds - before.usage.cpuSeconds
    }

    var entriesPerSecond: Double { Double(entries) / max(seconds, 1e-9) }
    var syncsPerSecond: Double { Double(syncs) / max(seconds, 1e-9) }
    var entriesPerSync: Double { Double(entries) / Double(max(syncs, 1)) }
    var bytesPerSync: Double { Double(frameBytes) / Double(max(frames, 1)) }
    /// What compression leaves of the bodies.
    var storedShare: Double { Double(bodyBytes) / Double(max(rawBodyBytes, 1)) }
    var bytesPerEntryByte: Double { share(of: frameBytes) }
    var deviceBytesPerEntryByte: Double { share(of: deviceBytes) }
    /// Of entry data, in millions.
    var megabytesPerSecond: Double { entriesPerSecond * Double(row.entryBytes) / 1e6 }
    var frameMegabytesPerSecond: Double { Double(frameBytes) / 1e6 / max(seconds, 1e-9) }
    /// Of all threads, the load's own work included.
    var cpuMicrosecondsPerEntry: Double { cpuSeconds * 1e6 / Double(max(entries, 1)) }

    // Beside the bare disk:
    var entriesPerRawSync: Double { entriesPerSecond / max(raw.perSecond, 1e-9) }
    var p50OfRaw: Double { latencies.p50 / max(rawFrames.latency.p50, 1e-9) }
    var bandwidthOfRaw: Double {
        frameMegabytesPerSecond / max(rawFrames.megabytesPerSecond, 1e-9)
    }

    var bandwidthOfDeep: Double {
        frameMegabytesPerSecond / max(rawDeep.megabytesPerSecond, 1e-9)
    }

    private func share(of bytes: UInt64) -> Double {
        Double(bytes) / Double(max(entries * UInt64(row.entryBytes), 1))
    }
}

/// All rows.
struct LogBenchReport: Sendable {
    var settings: LogBenchSettings
    var rows: [LogBenchResult] = []
    /// A write of 4 KiB through the page cache and an `fdatasync`.
    var cached = RawWrites(bytes: 4096)

    init(settings: LogBenchSettings) { self.settings = settings }

    /// The first thing found wrong in any row.
    var difference: String? {
        rows.first { $0.difference != nil }.flatMap { result in
            result.difference.map { "\(result.row.text): \($0)" }
        }
    }
}

// MARK: - For people

extension LogBenchReport {
    var table: String {
        var table = TextTable([
            ("APPENDERS", .right), ("BYTES", .right), ("REGIONS", .right), ("ENTRIES/S", .right),
            ("P50", .right), ("P99", .right), ("SYNCS/S", .right), ("PER SYNC", .right),
            ("WRITTEN", .right), ("STORED", .right), ("MB/S", .right), ("CPU/ENTRY", .right),
            ("RAW SYNCS/S", .right),
            ("x RAW SYNCS", .right), ("x RAW P50", .right), ("x RAW MB/S", .right),
            ("x DEEP", .right),
            ("", .left),
        ])
        for result in rows {
            table.append([
                BenchFormat.count(Double(result.row.appenders)),
                BenchFormat.count(Double(result.row.entryBytes)),
                BenchFormat.count(Double(result.row.regions)),
                BenchFormat.count(result.entriesPerSecond),
                BenchFormat.time(result.latencies.p50), BenchFormat.time(result.latencies.p99),
                BenchFormat.count(result.syncsPerSecond),
                BenchFormat.count(result.entriesPerSync),
                BenchFormat.ratio(result.bytesPerEntryByte),
                BenchFormat.ratio(result.storedShare),
                BenchFormat.count(result.megabytesPerSecond),
                BenchFormat.ratio(result.cpuMicrosecondsPerEntry) + " µs",
                BenchFormat.count(result.raw.perSecond),
                BenchFormat.ratio(result.entriesPerRawSync), BenchFormat.ratio(result.p50OfRaw),
                BenchFormat.ratio(result.bandwidthOfRaw),
                BenchFormat.ratio(result.bandwidthOfDeep),
                result.difference == nil ? "verified" : "WRONG",
            ])
        }
        var lines = table.lines.map { "  " + $0 }
        lines += [""] + histogramTable.map { "  " + $0 }
        lines += [
            "",
            "  WRITTEN is bytes of frames per byte of entry, STORED what compression leaves of "
                + "\(settings.values.rawValue);",
            "  CPU of all threads, the load included.",
            "  RAW is the bare disk in turns with each row, by the log's own calls on a file zeroed",
            "  ahead, one write at a time: syncs of 4 KiB; p50 and MB/s of writes of the row's mean frame;",
            "  DEEP the same with \(rows.first?.rawDeep.depth ?? 1) at a time. A write through the page "
                + "cache and an fdatasync, 4 KiB: "
                + "\(BenchFormat.count(cached.perSecond))/s, p50 "
                + "\(BenchFormat.time(cached.latency.p50)).",
        ]
        if let difference { lines.append("  WRONG: \(difference)") }
        return lines.joined(separator: "\n")
    }
}

extension LogBenchReport {
    /// For each row the p50, p99 and maximum of what the scheduler counts.
    private var histogramTable: [String] {
        var table = TextTable([
            ("P50 / P99 / MAX OF", .left), ("BATCHES", .right), ("ENTRIES", .right),
            ("FRAME BYTES", .right), ("IN FLIGHT", .right), ("QUEUED BYTES", .right),
            ("WRITE+SYNC", .right),
        ])
        for result in rows {
            guard let histograms = result.histograms else { continue }
            table.append(
                [result.row.text]
                    + histograms.all.map { histogram in
                        [
                            histogram.counts.quantile(0.5), histogram.counts.quantile(0.99),
                            histogram.counts.maximum,
                        ].map { value in
                            histogram.unit == "ns"
                                ? BenchFormat.time(Double(value) / 1000)
                                : BenchFormat.count(Double(value))
                        }.joined(separator: " / ")
                    })
        }
        return table.lines
    }
}

// MARK: - For machines

extension LogBenchReport {
    var json: JSONValue {
        .object([
            ("benchmark", .string("wal")), ("seconds_per_row", .number(settings.seconds)),
            ("batch_entries", .int(settings.batchEntries)),
            ("segment_mb", .int(settings.segmentMegabytes)),
            ("values", .string(settings.values.rawValue)),
            ("raw_write_fdatasync", cached.json), ("rows", .array(rows.map(\.json))),
            ("verified", .bool(difference == nil)),
            ("difference", difference.map { .string($0) } ?? .null),
        ])
    }
}

extension LogBenchResult {
    fileprivate var json: JSONValue {
        .object([
            ("appenders", .int(row.appenders)), ("entry_bytes", .int(row.entryBytes)),
            ("regions", .int(row.regions)), ("seconds", .number(seconds)),
            ("entries", .int(Int(clamping: entries))),
            ("entries_per_second", .number(entriesPerSecond)),
            ("p50_us", .number(latencies.p50)), ("p99_us", .number(latencies.p99)),
            ("max_us", .number(latencies.max)), ("syncs_per_second", .number(syncsPerSecond)),
            ("entries_per_sync", .number(entriesPerSync)),
            ("frame_bytes_per_sync", .number(bytesPerSync)),
            ("frame_bytes_per_entry_byte", .number(bytesPerEntryByte)),
            ("stored_share", .number(storedShare)),
            ("device_bytes_per_entry_byte", .number(deviceBytesPerEntryByte)),
            ("rewritten_bytes_per_entry_byte", .number(share(of: rewrittenBytes))),
            ("segments_begun", .int(Int(clamping: segmentsBegun))),
            ("segments_reused", .int(Int(clamping: segmentsReused))),
            ("entry_mb_per_second", .number(megabytesPerSecond)),
            ("frame_mb_per_second", .number(frameMegabytesPerSecond)),
            ("cpu_us_per_entry", .number(cpuMicrosecondsPerEntry)), ("raw_4k", raw.json),
            ("histograms", histograms?.json ?? .null), ("raw_frames", rawFrames.json),
            ("raw_frames_deep", rawDeep.json),
            ("entries_per_raw_sync", .number(entriesPerRawSync)),
            ("p50_to_raw", .number(p50OfRaw)), ("bandwidth_to_raw", .number(bandwidthOfRaw)),
            ("bandwidth_to_raw_deep", .number(bandwidthOfDeep)),
            ("verified", .bool(difference == nil)),
            ("difference", difference.map { .string($0) } ?? .null),
        ])
    }
}

extension LogHistograms {
    fileprivate var json: JSONValue {
        .object(
            all.map { (name, unit, counts) in
                (
                    unit.isEmpty ? name : "\(name)_\(unit == "B" ? "bytes" : unit)",
                    .object([
                        ("count", .int(Int(clamping: counts.total))),
                        ("p50", .int(Int(clamping: counts.quantile(0.5)))),
                        ("p99", .int(Int(clamping: counts.quantile(0.99)))),
                        ("max", .int(Int(clamping: counts.maximum))),
                    ])
                )
            })
    }
}

extension RawWrites {
    fileprivate var json: JSONValue {
        let latency = latency
        return .object([
            ("bytes", .int(bytes)), ("at_a_time", .int(depth)), ("per_second", .number(perSecond)),
            ("p50_us", .number(latency.p50)), ("p99_us", .number(latency.p99)),
            ("mb_per_second", .number(megabytesPerSecond)),
        ])
    }
}
