// One region's durable log, as its Raft core sees it: recent entries in memory, terms as runs, older
// entries fetched from the shared log by a read thread, never by the lane.
//
//   compacted | on disk only           | cached: not yet applied here, or wanted by a lagging peer |
//             ^ firstIndex             ^ cacheFirst                                       lastIndex ^
//
// Invariant: the cache is the contiguous run cacheFirst...lastIndex; only durable entries are in it.

import DequeModule
package import UkehiBase
package import UkehiRaft
package import UkehiWAL

/// A range of older entries that the core asked for.
package struct LogFetch: Hashable, Sendable {
    package var from: LogIndex
    package var to: LogIndex
    package var maxBytes: UInt64
}

package final class RegionLog: LogStorage {
    private var hardState: HardState
    private let configuration: ConfigurationState
    private var first: LogIndex
    private var last: LogIndex
    /// Term of the entry before `first`.
    private var compactedTerm: Term
    /// Ascending; the first run covers `first` if the log is not empty.
    private var runs: [TermRun]
    private var cache = Deque<Entry>()
    private(set) var cachedBytes = 0
    /// The last fetched entries; served until another fetch replaces them.
    private var fetched: [Entry] = []
    /// What the core asked for and nobody reads yet; the region passes it to the read thread.
    package private(set) var wantedFetch: LogFetch?
    private var fetchInFlight = false
    /// Entries that are on disk and cannot be read now: nobody is sent to fetch them.
    var unreadable: [ClosedRange<LogIndex>] = []
    /// What a peer is told that the log can bring on no more; nil: no snapshot can be made now.
    var makeOffer: (() -> Snapshot?)?
    /// Where in the log so many bytes had been appended since it was opened; ascending.
    private var marks = Deque<(index: LogIndex, bytes: UInt64)>()
    private var appendedBytes: UInt64 = 0
    private var bytesPerMark: UInt64 = 256 << 10
    /// How often the core wanted to send a snapshot; see ``snapshot()``.
    package private(set) var snapshotsAsked = 0

    package init(
        hardState: HardState, configuration: ConfigurationState, first: LogIndex, last: LogIndex,
        compactedTerm: Term, runs: [TermRun]
    ) {
        invariant(first.rawValue >= 1 && first <= last + 1, "log \(first)...\(last)")
        self.hardState = hardState
        self.configuration = configuration
        self.first = first
        self.last = last
        self.compactedTerm = compactedTerm
        self.runs = runs
        invariant(
            last < first || (runs.first.map { $0.start <= first } ?? false),
            "the terms of a log \(first)...\(last) are not known")
    }

    package override func initialState() -> (
        hardState: HardState, configuration: ConfigurationState
    ) { (hardState, configuration) }

    package override var firstIndex: LogIndex { first }
    package override var lastIndex: LogIndex { last }
    private var cacheFirst: LogIndex { last + 1 - UInt64(cache.count) }

    package override func term(at index: LogIndex) throws(LogStorageError) -> Term {
        guard index <= last else { throw .unavailable }
        if index + 1 == first { return compactedTerm }
        guard index >= first else { throw .compacted }
        // Runs are few, and asked-for terms are nearly always in the last one.
        var position = runs.count - 1
        while position > 0 && runs[position].start > index { position -= 1 }
        return runs[position].term
    }

    package override func entries(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        guard from >= first else { throw .compacted }
        guard to <= last + 1 else { throw .unavailable }
        guard from < to else { return [] }
        if from >= cacheFirst {
            let start = Int(from - cacheFirst)
            let end = start + Int(to - from)
            return take(end - start, maxBytes: maxBytes) { cache[start + $0] }
        }
        if let head = fetched.first, head.index <= from, from - head.index < UInt64(fetched.count) {
            let start = Int(from - head.index)
            let available = min(fetched.count - start, Int(to - from))
            return take(available, maxBytes: maxBytes) { fetched[start + $0] }
        }
        if !fetchInFlight, !unreadable.contains(where: { $0.contains(from) }) {
            wantedFetch = LogFetch(from: from, to: min(to, cacheFirst), maxBytes: maxBytes)
        }
        throw .temporarilyUnavailable
    }

    private func take(_ count: Int, maxBytes: UInt64, _ entry: (Int) -> Entry) -> [Entry] {
        var bytes: UInt64 = 0
        var taken: [Entry] = []
        taken.reserveCapacity(count)
        for position in 0..<count {
            let next = entry(position)
            bytes += UInt64(next.data.count)
            if position > 0 && bytes > maxBytes { break }
            taken.append(next)
        }
        return taken
    }

    package override func snapshot() throws(LogStorageError) -> Snapshot {
        snapshotsAsked += 1
        guard let snapshot = makeOffer?() else { throw .snapshotTemporarilyUnavailable }
        return snapshot
    }

    // MARK: What became durable

    /// Entries are durable now; they supersede what they overlap (RULES 42).
    package func append(_ entries: [Entry]) {
        guard let head = entries.first else { return }
        invariant(
            head.index > first - 1, "entries from \(head.index) behind the log's start \(first)")
        invariant(head.index <= last + 1, "entries from \(head.index) leave a gap after \(last)")
        if head.index <= last { truncateSuffix(from: head.index) }
        for entry in entries {
            invariant(entry.index == last + 1, "entry \(entry.index) after \(last)")
            if runs.last?.term != entry.term {
                runs.append(TermRun(start: entry.index, term: entry.term))
            }
            last = entry.index
            cache.append(entry)
            cachedBytes += entry.data.count
            appendedBytes += UInt64(entry.recordBytes)
        }
        if appendedBytes >= (marks.last?.bytes ?? 0) + bytesPerMark { mark() }
        // Where applying lags, what comes in must not pile up: it is read back when its turn comes.
        while cachedBytes > Limits.maxUnappliedCachedBytes, let oldest = cache.popFirst() {
            cachedBytes -= oldest.data.count
        }
    }

    private static let maxMarks = 4096

    /// Of a log that is kept long, every other mark goes: as many reach twice as far.
    private func mark() {
        marks.append((last, appendedBytes))
        guard marks.count > Self.maxMarks else { return }
        while marks.count > 1, marks[1].index < first { marks.removeFirst() }
        guard marks.count > Self.maxMarks else { return }
        marks = Deque(stride(from: 0, to: marks.count, by: 2).map { [marks] in marks[$0] })
        bytesPerMark *= 2
    }

    /// The last entry that has at least so many bytes behind it, near enough; nil: none is known to.
    func index(before byteCount: Int) -> LogIndex? {
        guard appendedBytes >= UInt64(byteCount) else { return nil }
        let limit = appendedBytes - UInt64(byteCount)
        while marks.count > 1, marks[1].index < first { marks.removeFirst() }
        // How many marks lie at or before the limit.
        var (low, high) = (0, marks.count)
        while low < high {
            let middle = (low + high) / 2
            if marks[middle].bytes <= limit { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? marks[low - 1].index : nil
    }

    /// A snapshot stands for everything up to `index`: the log is empty and goes on behind it.
    package func reset(index: LogIndex, term: Term) {
        first = index + 1
        last = index
        compactedTerm = term
        runs = []
        cache.removeAll()
        cachedBytes = 0
        fetched = []
        wantedFetch = nil
        marks.removeAll()
    }

    private func truncateSuffix(from index: LogIndex) {
        while !cache.isEmpty && last >= index {
            cachedBytes -= cache.removeLast().data.count
            last = last - 1
        }
        last = min(last, index - 1)
        while let run = runs.last, run.start >= index { runs.removeLast() }
        if let head = fetched.first, head.index + UInt64(fetched.count) > index { fetched = [] }
    }

    /// The log up to `index` is gone; `index` must be applied and its state durable (RULES 40).
    package func compact(upTo index: LogIndex) throws(LogStorageError) {
        guard index >= first else { return }
        invariant(index <= last, "compaction to \(index) past the last entry \(last)")
        compactedTerm = try term(at: index)
        first = index + 1
        while runs.count > 1 && runs[1].start <= first { runs.removeFirst() }
        if last < first { runs = [] }
        evict(upTo: index)
    }

    /// Lets go of cached entries up to `index`: they can still be read from the log.
    package func evict(upTo index: LogIndex) {
        while let head = cache.first, head.index <= index {
            cachedBytes -= head.data.count
            cache.removeFirst()
        }
    }

    /// Whether the cache is over its bound and lagging peers must read from disk.
    package var isOverBound: Bool { cachedBytes > Limits.maxCachedBytesPerRegion }

    // MARK: Fetches

    /// The fetch to start now, if the core asked for one; at most one is in flight.
    package func startFetch() -> LogFetch? {
        guard let fetch = wantedFetch, !fetchInFlight else { return nil }
        wantedFetch = nil
        fetchInFlight = true
        return fetch
    }

    /// The entries of the fetch in flight; empty if they are not there any more.
    package func finishFetch(_ entries: [Entry]) {
        fetchInFlight = false
        // An overwrite may have happened meanwhile: keep only what agrees with the log's terms.
        var valid = 0
        for entry in entries {
            guard entry.index >= first, let known = try? term(at: entry.index), known == entry.term
            else { break }
            valid += 1
        }
        fetched = valid == entries.count ? entries : Array(entries.prefix(valid))
    }
}
