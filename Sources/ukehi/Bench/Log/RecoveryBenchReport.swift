// What `ukehi bench wal --recovery` found.

/// Openings of one log.
struct RecoveryBenchReport: Sendable {
    var settings: RecoveryBenchSettings
    var timings: [RecoveryTiming] = []
    var bare = BareReading()
    var entries: UInt64 = 0
    /// What an opened log did not hold; nil: every region ended where it was acknowledged to.
    var difference: String?

    init(settings: RecoveryBenchSettings) { self.settings = settings }

    /// Of log, for each second of opening.
    func gigabytesPerSecond(_ timing: RecoveryTiming) -> Double {
        Double(bare.bytes) / timing.median / 1e9
    }
    /// The same for each second of a processor.
    func gigabytesPerCPUSecond(_ timing: RecoveryTiming) -> Double {
        Double(bare.bytes) / timing.medianCPU / 1e9
    }
    /// A way's log bytes for each second of a processor, beside the checksum alone, and beside
    /// reading and checksum, both on one.
    func toChecksum(_ timing: RecoveryTiming) -> Double {
        gigabytesPerCPUSecond(timing) / bare.checksumGigabytesPerSecond
    }
    func toReading(_ timing: RecoveryTiming) -> Double {
        gigabytesPerCPUSecond(timing) / bare.gigabytesPerSecond
    }

    var table: String {
        var table = TextTable([
            ("OPENED BY", .left), ("MEDIAN", .right), ("BEST", .right), ("WORST", .right),
            ("CPU", .right), ("GB/S", .right), ("GB/CPU S", .right),
            ("x CRC", .right), ("x READ+CRC", .right),
        ])
        for timing in timings {
            table.append([
                timing.way.name, BenchFormat.time(timing.median * 1e6),
                BenchFormat.time(timing.best * 1e6), BenchFormat.time(timing.worst * 1e6),
                BenchFormat.time(timing.medianCPU * 1e6),
                BenchFormat.ratio(gigabytesPerSecond(timing)),
                BenchFormat.ratio(gigabytesPerCPUSecond(timing)),
                BenchFormat.ratio(toChecksum(timing)),
                BenchFormat.ratio(toReading(timing)),
            ])
        }
        var lines = table.lines.map { "  " + $0 }
        lines += [
            "",
            "  \(BenchFormat.count(Double(entries))) entries of "
                + "\(BenchFormat.count(Double(settings.entryBytes))) B in "
                + "\(BenchFormat.count(Double(settings.regions))) regions, "
                + "\(BenchFormat.ratio(Double(bare.bytes) / 1e9)) GB of files, from the page cache;",
            "  the newest segment is half full and always scanned. Ratios are for each second of a",
            "  processor. CRC32C alone, on one: "
                + "\(BenchFormat.ratio(bare.checksumGigabytesPerSecond)) GB/s; reading the same bytes "
                + "and CRC32C: \(BenchFormat.ratio(bare.gigabytesPerSecond)) GB/s.",
            difference.map { "  WRONG: \($0)" } ?? "  Every region was there to its last entry.",
        ]
        return lines.joined(separator: "\n")
    }

    var json: JSONValue {
        .object([
            ("benchmark", .string("wal-recovery")), ("gigabytes", .int(settings.gigabytes)),
            ("entry_bytes", .int(settings.entryBytes)), ("regions", .int(settings.regions)),
            ("segment_mb", .int(settings.segmentMegabytes)),
            ("entries", .int(Int(clamping: entries))),
            ("log_bytes", .int(Int(clamping: bare.bytes))),
            ("crc_gb_per_second", .number(bare.checksumGigabytesPerSecond)),
            ("read_and_crc_gb_per_second", .number(bare.gigabytesPerSecond)),
            (
                "openings",
                .array(
                    timings.map { timing in
                        .object([
                            ("by", .string(timing.way.readsFooters ? "footers" : "scan")),
                            ("parallel", .bool(timing.way.isParallel)),
                            ("median_seconds", .number(timing.median)),
                            ("median_cpu_seconds", .number(timing.medianCPU)),
                            ("seconds", .array(timing.seconds.map { .number($0) })),
                            ("gb_per_second", .number(gigabytesPerSecond(timing))),
                            ("to_crc", .number(toChecksum(timing))),
                            (
                                "gb_per_cpu_second", .number(gigabytesPerCPUSecond(timing))
                            ), ("to_read_and_crc", .number(toReading(timing))),
                        ])
                    })
            ), ("verified", .bool(difference == nil)),
            ("difference", difference.map { .string($0) } ?? .null),
        ])
    }
}
