// What `ukehi bench wal` was asked to do.

/// One row of the table: a fresh log under one kind of load.
struct LogBenchRow: Equatable, Sendable {
    /// Closed-loop appenders: each has one entry under way at any time.
    var appenders: Int
    /// Bytes of an entry's data.
    var entryBytes: Int
    /// Regions that the entries belong to, in turn.
    var regions: Int
}

/// All rows, and what they have in common.
struct LogBenchSettings: Sendable {
    var rows = LogBenchSettings.standardRows
    /// Measured seconds of each row.
    var seconds = 2.0
    var directory: String?
    var keepsData = false
    /// As a node's.
    var segmentMegabytes = 128
    /// Frames that the log writes at the same time; nil: as a node does.
    var framesInFlight: Int?
    /// Entries that share a batch at most, as those of one pass of a lane do.
    var batchEntries = 256
    /// From how many KiB on bodies are compressed; 0: never; nil: as a node does.
    var compressionKilobytes: Int?
    var values = LogPayloads.Kind.noise
    var isJSON = false

    /// What the log's goals speak of, and the shapes between them.
    static let standardRows: [LogBenchRow] = [
        LogBenchRow(appenders: 1, entryBytes: 128, regions: 1),
        LogBenchRow(appenders: 2, entryBytes: 128, regions: 1),
        LogBenchRow(appenders: 8, entryBytes: 128, regions: 1),
        LogBenchRow(appenders: 64, entryBytes: 128, regions: 1),
        LogBenchRow(appenders: 64, entryBytes: 128, regions: 100),
        LogBenchRow(appenders: 1024, entryBytes: 128, regions: 1),
        LogBenchRow(appenders: 1024, entryBytes: 128, regions: 100),
        LogBenchRow(appenders: 1024, entryBytes: 128, regions: 10_000),
        LogBenchRow(appenders: 64, entryBytes: 1024, regions: 100),
        LogBenchRow(appenders: 1024, entryBytes: 1024, regions: 100),
        LogBenchRow(appenders: 64, entryBytes: 4096, regions: 100),
        LogBenchRow(appenders: 1024, entryBytes: 4096, regions: 100),
        LogBenchRow(appenders: 1024, entryBytes: 4096, regions: 10_000),
    ]

    /// Every combination of the given values.
    static func rows(appenders: [Int], entryBytes: [Int], regions: [Int]) -> [LogBenchRow] {
        entryBytes.flatMap { bytes in
            appenders.flatMap { count in
                regions.map { LogBenchRow(appenders: count, entryBytes: bytes, regions: $0) }
            }
        }
    }

    /// What is impossible, all of it at once, each with the option to change.
    var problems: [String] {
        var problems: [String] = []
        func check(_ isRight: Bool, _ problem: String) {
            if !isRight { problems.append(problem) }
        }
        check(
            rows.allSatisfy { (1...1_000_000).contains($0.appenders) },
            "--appenders must be 1 to 1000000")
        check(
            rows.allSatisfy { (8...(1 << 20)).contains($0.entryBytes) },
            "--entry-size must be 8 to 1048576")
        check(
            rows.allSatisfy { (1...1_000_000).contains($0.regions) },
            "--regions must be 1 to 1000000")
        check(
            rows.allSatisfy { $0.appenders * $0.entryBytes <= 1 << 30 },
            "--appenders times --entry-size must be at most 1 GiB: all of it is under way at once")
        check(seconds > 0, "--duration must be above 0 seconds")
        check((1...1024).contains(segmentMegabytes), "--segment-mb must be 1 to 1024")
        check((1...64).contains(framesInFlight ?? 1), "--in-flight must be 1 to 64")
        check(batchEntries > 0, "--batch must be above 0")
        check(
            (0...65_536).contains(compressionKilobytes ?? 0),
            "--compression-threshold must be 0 to 65536")
        return problems
    }
}
