// One region's log as the core sees it: what is durable, what is on its way there, and how far it
// is committed and applied.
//
//   index      1 … | 40 … 49 | 50 … 57 | 58 … 60 | 61 …
//              compacted       │         │         └ does not exist
//                    └ in the storage    └ new: the next Ready hands it to the storage
//                              └ being written: handed out, not yet acknowledged
//                    bufferStart         inProgressEnd
//                              unstableStart
//
// The buffer keeps durable entries too until they are handed out to be applied, so that the usual
// entry, appended, sent, written, committed and applied in a row, is never read back.
//
// Slices of the buffer leave as arrays. The newest one is kept, so that the storage and every
// follower sent the same entries share one allocation.

import UkehiBase

/// The log with its positions.
///
/// Invariant: applied <= applying <= committed <= lastIndex; bufferStart <= unstableStart <=
/// inProgressEnd, all at most lastIndex + 1; the buffer holds bufferStart...lastIndex.
struct RaftLog: ~Copyable {
    let storage: LogStorage

    /// Entries from `bufferStart` on start at `head`.
    var buffer: [Entry] = []
    var head = 0
    /// Of the records in the buffer.
    var bufferBytes: UInt64 = 0
    var bufferStart: LogIndex
    /// Entries from here on are not known to be durable.
    var unstableStart: LogIndex
    /// Entries below are handed to the storage.
    var inProgressEnd: LogIndex
    /// A snapshot that replaces the log, until the storage has it.
    var snapshot: SnapshotBox?
    var snapshotInProgress = false

    var lastIndex: LogIndex
    var lastTerm: Term
    /// Entries `lastRunStart...lastIndex` have the last term.
    var lastRunStart: LogIndex

    /// Known to be held by a quorum.
    var committed: LogIndex
    /// Handed out to be applied.
    var applying: LogIndex
    /// Acknowledged as applied.
    var applied: LogIndex

    /// Bytes handed out to be applied and not acknowledged; callers know the bound.
    var applyingBytes: UInt64 = 0
    /// The bound is reached, or the next entry would exceed it.
    var applyingPaused = false
    /// Committed entries are being read; ``RawNode/storageFetched()`` tries again.
    var awaitsStorage = false

    /// What was last taken out of the buffer.
    var sliceCache: [Entry] = []

    /// The log that `storage` has, committed and applied up to where it is compacted.
    static func open(
        _ storage: LogStorage
    ) throws(RaftError) -> RaftLog {
        let first = storage.firstIndex
        let last = storage.lastIndex
        guard first > .zero, last <= RaftLimits.maxIndex, first <= last + 1 else {
            throw .inconsistentStorage("its log starts at \(first) and ends at \(last)")
        }
        guard let lastTerm = try? storage.term(at: last) else {
            throw .inconsistentStorage("it does not know the term of its last entry \(last)")
        }
        guard lastTerm <= RaftLimits.maxTerm else {
            throw .inconsistentStorage("its last entry has the impossible term \(lastTerm)")
        }
        return RaftLog(
            storage: storage, firstIndex: first, lastIndex: last, lastTerm: lastTerm)
    }

    private init(
        storage: LogStorage, firstIndex: LogIndex, lastIndex: LogIndex, lastTerm: Term
    ) {
        self.storage = storage
        self.lastIndex = lastIndex
        self.lastTerm = lastTerm
        lastRunStart = lastIndex
        bufferStart = lastIndex + 1
        unstableStart = lastIndex + 1
        inProgressEnd = lastIndex + 1
        committed = firstIndex - 1
        applying = firstIndex - 1
        applied = firstIndex - 1
    }

    // MARK: Positions

    /// The first index whose entry can be had.
    var firstIndex: LogIndex {
        if let snapshot { return snapshot.value.index + 1 }
        return storage.firstIndex
    }

    /// Whether the storage does not have everything yet.
    var hasUnstableEntries: Bool { unstableStart <= lastIndex }
    /// Whether there is something the storage was not told of.
    var hasNewEntries: Bool { inProgressEnd <= lastIndex }
    var hasNewSnapshot: Bool { snapshot != nil && !snapshotInProgress }

    /// The term of the entry at `index`, nil when it is compacted or past the end.
    func term(at index: LogIndex) -> Term? {
        guard index <= lastIndex else { return nil }
        // Nothing past `applied` is ever compacted, so its term needs no look at the storage.
        if index >= lastRunStart, index >= applied { return lastTerm }
        if index >= bufferStart { return entry(at: index).term }
        if let snapshot {
            return index == snapshot.value.index ? snapshot.value.term : nil
        }
        guard index + 1 >= storage.firstIndex else { return nil }
        return try? storage.term(at: index)
    }

    func matches(_ index: LogIndex, _ term: Term) -> Bool { self.term(at: index) == term }

    /// Whether a log that ends at (`index`, `term`) holds at least what ours does (Raft §5.4.1).
    func isUpToDate(index: LogIndex, term: Term) -> Bool {
        term > lastTerm || (term == lastTerm && index >= lastIndex)
    }

    /// The highest index at or below `index` where a log whose terms are at most `term` from there
    /// on may agree with ours; its term, or zero when that is not known.
    func conflict(from index: LogIndex, term: Term) -> (index: LogIndex, term: Term) {
        var index = index
        while index > .zero {
            guard let ours = self.term(at: index) else { return (index, .zero) }
            if ours <= term { return (index, ours) }
            index = index - 1
        }
        return (.zero, .zero)
    }

    @inline(__always)
    func entry(at index: LogIndex) -> Entry { buffer[head + Int(index - bufferStart)] }

    // MARK: Commit and apply

    /// Raises the commit index to `index`; it only ever grows (Raft, Figure 2).
    mutating func commit(to index: LogIndex) {
        guard index > committed else { return }
        // Going on would apply entries we never held; callers check what peers say.
        invariant(index <= lastIndex, "commit \(index) is past the last entry \(lastIndex)")
        committed = index
    }

    /// The highest index that may be handed out to be applied.
    func maxAppliable(allowUnstable: Bool) -> LogIndex {
        allowUnstable ? committed : min(committed, unstableStart - 1)
    }

    func hasCommittedEntries(allowUnstable: Bool) -> Bool {
        // A snapshot is applied alone, so that what comes first is never a question.
        !applyingPaused && !awaitsStorage && snapshot == nil
            && applying < maxAppliable(allowUnstable: allowUnstable)
    }

    /// Takes what may be applied next, so that at most `maxBytes` are unacknowledged.
    mutating func takeCommittedEntries(allowUnstable: Bool, maxBytes: UInt64) -> [Entry] {
        guard hasCommittedEntries(allowUnstable: allowUnstable) else { return [] }
        let end = maxAppliable(allowUnstable: allowUnstable) + 1
        let entries: [Entry]
        do {
            entries = try slice(
                from: applying + 1, to: end, maxBytes: maxBytes - applyingBytes)
        } catch {
            invariant(
                error == .temporarilyUnavailable,
                "committed entries from \(applying + 1) on can't be read: \(error)")
            awaitsStorage = true
            return []
        }
        guard let last = entries.last?.index else { return [] }
        applying = last
        for entry in entries { applyingBytes += UInt64(entry.recordBytes) }
        applyingPaused = applyingBytes >= maxBytes || last + 1 < end
        dropPrefix()
        return entries
    }

    /// Notes that everything up to `index` is applied, `bytes` of it handed out as entries.
    mutating func applied(to index: LogIndex, bytes: UInt64, maxBytes: UInt64) {
        invariant(
            index >= applied && index <= committed,
            "applied \(index) is outside \(applied)...\(committed)")
        applied = index
        applying = max(applying, index)
        applyingBytes -= min(applyingBytes, bytes)
        applyingPaused = applyingBytes >= maxBytes
        dropPrefix()
    }
}

/// Bounds on what a message may say, far beyond what any group reaches and far enough below the
/// largest integer that no sum with them overflows.
enum RaftLimits {
    static let maxTerm = Term(1 << 62)
    static let maxIndex = LogIndex(1 << 62)
    /// The last index that a peer may give; what this one then appends itself stays below `maxIndex`.
    static let maxPeerIndex = LogIndex(1 << 61)
    /// Durable entries kept in memory for being applied soon; with more, they are read back.
    static let maxRetainedBytes: UInt64 = 4 << 20
    /// Reads that wait inside one core.
    static let maxWaitingReads = 65_536
}
