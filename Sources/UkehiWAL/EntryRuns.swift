// Walking a body's entry records with every length checked, and the runs of terms they form.

package import UkehiBase

/// From `start` on, entries have `term`, up to the next run.
package struct TermRun: Hashable, Sendable {
    package var start: LogIndex
    package var term: Term

    package init(start: LogIndex, term: Term) {
        self.start = start
        self.term = term
    }
}

/// One record's place in a body.
struct EntryRecord {
    var term: Term
    var kind: EntryKind
    /// Of the data, from the body's start.
    var offset: Int
    var count: Int
}

/// How a walk over records ended.
enum RecordWalk {
    /// After the last one, at this byte.
    case ended(at: Int, lastTerm: Term)
    case broken(String)
}

/// Runs `visit` for the first `count` records of `body`.
@inline(__always)
func walkRecords(
    _ count: Int, in body: UnsafeRawBufferPointer, _ visit: (Int, EntryRecord) -> Void
) -> RecordWalk {
    var at = 0
    var term = Term.zero
    for position in 0..<count {
        guard let base = body.baseAddress, body.count - at >= Entry.recordHeaderBytes else {
            return .broken("an entry is cut off")
        }
        let record = base + at
        let length = Int(record.get(UInt32.self, at: 0))
        let next = Term(record.get(UInt64.self, at: 8))
        at += Entry.recordHeaderBytes
        guard body.count - at >= length else { return .broken("an entry is cut off") }
        guard let raw = UInt8(exactly: record.get(UInt32.self, at: 4)),
            let kind = EntryKind(rawValue: raw)
        else { return .broken("an entry is of a kind that this version does not know") }
        guard next >= term else { return .broken("an entry's term is below the one before") }
        term = next
        visit(position, EntryRecord(term: next, kind: kind, offset: at, count: length))
        at += length
    }
    return .ended(at: at, lastTerm: term)
}

/// Runs `visit` for each record of an append's body; the reason when they are not what the item says.
@inline(__always)
func forEachRecord(
    of item: BatchItem, in body: UnsafeRawBufferPointer, _ visit: (Int, EntryRecord) -> Void
) -> String? {
    switch walkRecords(Int(item.count), in: body, visit) {
    case .broken(let reason): return reason
    case .ended(let at, _) where at != body.count: return "bytes behind the last entry"
    case .ended(_, let term) where item.count > 0 && term != item.lastTerm:
        return "a last entry of another term than stated"
    case .ended: return nil
    }
}

/// The runs of one region, kept while replaying.
struct TermRuns: Sendable {
    private(set) var runs: [TermRun] = []
    /// Of `runs`: what most appends only look at, without a look into the array.
    private var last: TermRun?

    mutating func append(_ index: LogIndex, _ term: Term) {
        if let last, last.term == term, last.start <= index { return }
        let run = TermRun(start: index, term: term)
        runs.append(run)
        last = run
    }

    mutating func truncate(from index: LogIndex) {
        while let run = last, run.start >= index {
            runs.removeLast()
            last = runs.last
        }
    }

    /// The term of the entry before `index`, if it is in these runs.
    func term(before index: LogIndex) -> Term? { runs.last { $0.start < index }?.term }

    /// Takes the terms of the entries in `range` from `others`. `isFollowed`: there is one behind them.
    mutating func replace(
        _ range: Range<LogIndex>, with others: TermRuns, isFollowed: Bool
    ) {
        let behind = isFollowed ? term(before: range.upperBound + 1) : nil
        var all = runs.filter { $0.start < range.lowerBound } + others.runs
        if let behind { all.append(TermRun(start: range.upperBound, term: behind)) }
        all += runs.filter { $0.start > range.upperBound }
        runs = []
        last = nil
        for run in all { append(run.start, run.term) }
    }

    mutating func removeAll() {
        runs.removeAll()
        last = nil
    }

    /// The runs of `firstIndex...lastIndex`.
    func from(_ firstIndex: LogIndex, to lastIndex: LogIndex) -> [TermRun] {
        guard firstIndex <= lastIndex else { return [] }
        var rest = runs
        while rest.count > 1, rest[1].start <= firstIndex { rest.removeFirst() }
        if !rest.isEmpty, rest[0].start < firstIndex { rest[0].start = firstIndex }
        return rest
    }
}
