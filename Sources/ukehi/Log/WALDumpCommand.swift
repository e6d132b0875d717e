// `ukehi wal dump`: the log in its own order.

import ArgumentParser
import UkehiBase
import UkehiState
import UkehiWAL

extension WALCommand {
    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print what is in each segment, in log order.",
            discussion: """
                Superseded entries are shown too: what counts is said by `ukehi wal audit`. A frame \
                holds one group commit: the batches of many regions under one sync. With filters, \
                only frames and batches are shown that have something of what is asked for; several \
                filters must all hold.

                EXAMPLES
                  ukehi wal dump ./data --limit 20
                  ukehi wal dump ./data --region 2 --from 100 --to 199
                  ukehi wal dump ./data --kind birth,reset,tombstone
                  ukehi wal dump ./data --lsn-from 5000 --lsn-to 5010 --json
                  ukehi wal dump ./data --since 2026-11-25T12:00:00Z --until 2026-11-25T12:05:00Z
                """)

        @OptionGroup var log: LogOptions
        @Option(help: "Only this region.") var region: UInt64?
        @Option(help: "Only from this index on.") var from: UInt64?
        @Option(help: "Only up to and with this index.") var to: UInt64?
        @Option(help: "Only this term.") var term: UInt64?
        @Option(
            help: """
                Only these kinds, separated by commas: append, compact, birth, reset, tombstone, \
                carry, rewrite; of entries: normal, confChange, confChangeV2.
                """) var kind: Kinds?
        @Option(help: "Only frames from this log sequence number on.") var lsnFrom: UInt64?
        @Option(help: "Only frames up to and with this log sequence number.") var lsnTo: UInt64?
        @Option(
            help: """
                Only entries of this logged time or later: 2026-11-25T12:00:00Z, or seconds since \
                1970.
                """) var since: LoggedTime?
        @Option(help: "Only entries of an earlier logged time than this.") var until: LoggedTime?
        @Option(help: "At most so many entries.") var limit: Int?

        func validate() throws {
            if let limit, limit < 1 {
                throw ValidationError("--limit \(limit): allowed is 1 and up")
            }
            func check(_ low: UInt64?, _ high: UInt64?, _ names: String) throws {
                if let low, let high, low > high {
                    throw ValidationError("\(names): the first is above the second")
                }
            }
            try check(from, to, "--from and --to")
            try check(lsnFrom, lsnTo, "--lsn-from and --lsn-to")
            try check(since?.nanoseconds, until?.nanoseconds, "--since and --until")
        }

        private var filter: LogFilter {
            var filter = LogFilter(region: region.map { RegionID($0) })
            filter.indexes = range(from, to)
            filter.term = term.map { Term($0) }
            filter.lsns = range(lsnFrom, lsnTo)
            filter.recordKinds = kind?.records
            filter.entryKinds = kind?.entries
            if since != nil || until != nil {
                let times = (since?.nanoseconds ?? 0)..<(until?.nanoseconds ?? UInt64.max)
                filter.entry = { entry in
                    guard entry.kind == .normal, entry.bytes > 0,
                        let payload = try? EntryPayload.header(of: entry.data)
                    else { return false }
                    return times.contains(payload.loggedTime)
                }
            }
            return filter
        }

        private func range(_ low: UInt64?, _ high: UInt64?) -> Range<UInt64>? {
            guard low != nil || high != nil else { return nil }
            let upper = high.map { $0 == .max ? $0 : $0 + 1 } ?? .max
            return (low ?? 0)..<max(upper, low ?? 0)
        }

        func run() throws {
            var left = limit ?? Int.max
            // Where lines of the dump appear, progress would only be in their way.
            let progress = isOutputWatched ? nil : ProgressLine("reading")
            defer { progress?.end() }
            do throws(WALError) {
                try log.inspector(progress).dump(filter) { record in
                    switch record {
                    case .segment(let segment):
                        printLine(log.json ? object(of: segment).text : line(of: segment))
                    case .frame(let frame):
                        if log.json {
                            printLine(object(of: frame).text)
                        } else {
                            for line in lines(of: frame) { printLine(line) }
                        }
                    case .entry(let entry):
                        printLine(log.json ? object(of: entry).text : line(of: entry))
                        left -= 1
                    }
                    return left > 0
                }
            } catch { throw Failure(error) }
        }
    }

    /// Kinds of records, of entries, or both: then appends with such entries are meant.
    struct Kinds: ExpressibleByArgument {
        var records: Set<RecordKind>?
        var entries: Set<EntryKind>?

        private static let records: [RecordKind] = [
            .append, .compact, .birth, .reset, .tombstone, .carry, .rewrite,
        ]
        private static let entries: [EntryKind] = [.normal, .confChange, .confChangeV2]

        init?(argument: String) {
            for name in argument.split(separator: ",", omittingEmptySubsequences: false) {
                if let kind = Kinds.records.first(where: { "\($0)" == name }) {
                    records = (records ?? []).union([kind])
                } else if let kind = Kinds.entries.first(where: { "\($0)" == name }) {
                    entries = (entries ?? []).union([kind])
                } else {
                    return nil
                }
            }
        }
    }
}

/// A moment of logged time: `2026-11-25T12:00:00Z`, without the clock time midnight, or seconds since
/// 1970.
struct LoggedTime: ExpressibleByArgument {
    var nanoseconds: UInt64

    init?(argument: String) {
        if let seconds = Double(argument), seconds >= 0, seconds < 1.8e10 {
            nanoseconds = UInt64(seconds * 1e9)
            return
        }
        let halves = argument.split(
            separator: "T", maxSplits: 1, omittingEmptySubsequences: false)
        guard let date = halves.first.flatMap({ LoggedTime.numbers($0, "-", count: 3) }),
            let days = LoggedTime.days(date[0], date[1], date[2])
        else { return nil }
        var seconds = days * 86_400
        if halves.count == 2 {
            guard halves[1].hasSuffix("Z"),
                let time = LoggedTime.numbers(halves[1].dropLast(), ":", count: 3),
                time[0] < 24, time[1] < 60, time[2] < 60
            else { return nil }
            seconds += time[0] * 3600 + time[1] * 60 + time[2]
        }
        nanoseconds = UInt64(seconds) * 1_000_000_000
    }

    private static func numbers(
        _ text: Substring, _ separator: Character, count: Int
    ) -> [Int]? {
        let parts = text.split(separator: separator, omittingEmptySubsequences: false)
        let numbers = parts.compactMap { $0.allSatisfy(\.isNumber) ? Int($0) : nil }
        return numbers.count == count && parts.count == count ? numbers : nil
    }

    /// Days from 1970 to a day of the Gregorian calendar; nil if there is no such day.
    private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int? {
        guard (1970...2500).contains(year), (1...12).contains(month) else { return nil }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard (1...lengths[month - 1]).contains(day) else { return nil }
        let before = year - 1
        let leaps = before / 4 - before / 100 + before / 400 - 477
        return (year - 1970) * 365 + leaps + lengths[..<(month - 1)].reduce(0, +) + day - 1
    }
}
