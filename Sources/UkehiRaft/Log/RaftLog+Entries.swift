// Appending, truncating, reading and forgetting entries. See RaftLog.swift for the picture.

import UkehiBase

extension RaftLog {
    /// A follower's append (Raft §5.3): checks that our log holds (`index`, `term`), truncates from
    /// the first conflict only, appends what is new (RULES 2).
    ///
    /// `entries` follow `index` without a gap. Returns whether the logs met.
    mutating func append(_ entries: [Entry], after index: LogIndex, term: Term) -> Bool {
        #if BugBank
            if PlantedBug.previousTermUnchecked.isPlanted, index <= lastIndex, index >= committed,
                !matches(index, term), let first = entries.first, first.index > committed
            {
                truncateAndAppend(entries[...], whole: entries)
                return true
            }
            if PlantedBug.truncatesWhatMatches.isPlanted, matches(index, term),
                let first = entries.first, first.index > committed
            {
                truncateAndAppend(entries[...], whole: entries)
                return true
            }
        #endif
        guard matches(index, term) else { return false }
        guard let last = entries.last else { return true }
        // The usual case: everything is new.
        if index == lastIndex {
            truncateAndAppend(entries[...], whole: entries)
            return true
        }
        if last.index <= lastIndex, matches(last.index, last.term) {
            // Terms never decrease along a log and logs that agree on an entry agree before it.
            return true
        }
        guard let place = entries.firstIndex(where: { !matches($0.index, $0.term) }) else {
            return true
        }
        invariant(
            entries[place].index > committed,
            "entry \(entries[place].index) conflicts with a committed one")
        truncateAndAppend(entries[place...], whole: place == 0 ? entries : nil)
        return true
    }

    /// A leader's append, after the last entry.
    mutating func append(_ entries: [Entry]) {
        truncateAndAppend(entries[...], whole: entries)
    }

    /// A leader's append of one entry.
    mutating func append(_ entry: Entry) {
        if entry.term != lastTerm {
            lastTerm = entry.term
            lastRunStart = entry.index
        }
        buffer.append(entry)
        bufferBytes += UInt64(entry.recordBytes)
        lastIndex = entry.index
    }

    private mutating func truncateAndAppend(_ entries: ArraySlice<Entry>, whole: [Entry]?) {
        guard let first = entries.first, let last = entries.last else { return }
        let oldTerm: Term? = first.index > lastRunStart ? lastTerm : nil
        if first.index <= lastIndex {
            truncate(from: first.index)
        }
        buffer.append(contentsOf: entries)
        for entry in entries { bufferBytes += UInt64(entry.recordBytes) }
        lastIndex = last.index
        lastTerm = last.term
        if first.term == last.term {
            if oldTerm != last.term { lastRunStart = first.index }
        } else {
            var start = last.index
            for entry in entries.reversed() where entry.term == last.term { start = entry.index }
            lastRunStart = start
        }
        if let whole { sliceCache = whole }
    }

    private mutating func truncate(from index: LogIndex) {
        if index <= bufferStart {
            buffer.removeAll(keepingCapacity: true)
            head = 0
            bufferBytes = 0
            bufferStart = index
        } else {
            let count = Int(lastIndex + 1 - index)
            for entry in buffer.suffix(count) { bufferBytes -= UInt64(entry.recordBytes) }
            buffer.removeLast(count)
        }
        unstableStart = min(unstableStart, index)
        inProgressEnd = min(inProgressEnd, index)
        sliceCache = []
    }

    /// Notes that the log up to (`index`, `term`) is durable. Ignored when our entry there is
    /// another one by now: a later write will replace what the storage has (RULES 4).
    mutating func stable(to index: LogIndex, term: Term) {
        guard index >= unstableStart, index <= lastIndex, entry(at: index).term == term else {
            return
        }
        unstableStart = index + 1
        inProgressEnd = max(inProgressEnd, unstableStart)
        dropPrefix()
    }

    /// Forgets entries that are durable and handed out to be applied; all that are durable if
    /// applying has fallen far behind.
    mutating func dropPrefix() {
        let keeps = bufferBytes <= RaftLimits.maxRetainedBytes
        let end = keeps ? min(unstableStart, applying + 1) : unstableStart
        guard end > bufferStart else { return }
        let count = buffer.count - head
        let dropped = Int(end - bufferStart)
        bufferStart = end
        if dropped >= count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 512)
            head = 0
            bufferBytes = 0
            sliceCache = []
        } else {
            for place in head..<head + dropped { bufferBytes -= UInt64(buffer[place].recordBytes) }
            head += dropped
            // Moving what is left is paid for by what was dropped.
            if head >= 64, head > buffer.count / 2 {
                buffer.removeFirst(head)
                head = 0
            }
        }
    }

    /// Takes what the storage was not told of.
    mutating func takeNewEntries() -> [Entry] {
        guard hasNewEntries else { return [] }
        let entries = bufferSlice(
            from: inProgressEnd, count: Int(lastIndex + 1 - inProgressEnd))
        inProgressEnd = lastIndex + 1
        return entries
    }

    mutating func takeNewSnapshot() -> SnapshotBox? {
        guard hasNewSnapshot else { return nil }
        snapshotInProgress = true
        return snapshot
    }

    /// Replaces the log by a snapshot past the commit index.
    mutating func restore(_ box: SnapshotBox) {
        let index = box.value.index
        buffer = []
        head = 0
        bufferBytes = 0
        sliceCache = []
        bufferStart = index + 1
        unstableStart = index + 1
        inProgressEnd = index + 1
        snapshot = box
        snapshotInProgress = false
        lastIndex = index
        lastTerm = box.value.term
        lastRunStart = index
        committed = index
    }

    /// Notes that the storage has the snapshot at `index`.
    mutating func stableSnapshot(at index: LogIndex) {
        if let snapshot, snapshot.value.index == index {
            self.snapshot = nil
            snapshotInProgress = false
        }
    }

    /// Entries from `index` to the end, bounded by `maxBytes` but at least one if there is any.
    mutating func entries(
        from index: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        guard index <= lastIndex else { return [] }
        return try slice(from: index, to: lastIndex + 1, maxBytes: maxBytes)
    }

    /// Entries of `from..<to`, bounded by `maxBytes` but at least one.
    mutating func slice(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) throws(LogStorageError) -> [Entry] {
        guard from < to else { return [] }
        invariant(to <= lastIndex + 1, "entries up to \(to) of a log that ends at \(lastIndex)")
        if from >= bufferStart {
            return bufferSlice(from: from, to: to, maxBytes: maxBytes)
        }
        guard from >= firstIndex else { throw .compacted }
        let storedEnd = min(to, bufferStart)
        let stored = try storage.entries(from: from, to: storedEnd, maxBytes: maxBytes)
        // A short answer means that the bound was reached, or that only this much was at hand.
        guard let lastStored = stored.last?.index else { throw .unavailable }
        guard lastStored + 1 == storedEnd, storedEnd < to else { return stored }
        var bytes: UInt64 = 0
        for entry in stored { bytes += UInt64(entry.recordBytes) }
        var all = stored
        var index = storedEnd
        while index < to {
            let next = entry(at: index)
            bytes += UInt64(next.recordBytes)
            if bytes > maxBytes { break }
            all.append(next)
            index = index + 1
        }
        return all
    }

    private mutating func bufferSlice(
        from: LogIndex, to: LogIndex, maxBytes: UInt64
    ) -> [Entry] {
        var count = Int(to - from)
        if maxBytes != .max {
            let start = head + Int(from - bufferStart)
            var bytes: UInt64 = 0
            for offset in 0..<count {
                bytes += UInt64(buffer[start + offset].recordBytes)
                if bytes > maxBytes, offset > 0 {
                    count = offset
                    break
                }
            }
        }
        return bufferSlice(from: from, count: count)
    }

    private mutating func bufferSlice(from: LogIndex, count: Int) -> [Entry] {
        if sliceCache.count == count, sliceCache.first?.index == from { return sliceCache }
        let start = head + Int(from - bufferStart)
        sliceCache = Array(buffer[start..<start + count])
        return sliceCache
    }

    /// Whether a committed entry after `applied` changes the membership; nil when the storage can't
    /// say now. Reads in pages, so that a long tail does not come into memory at once.
    mutating func hasUnappliedConfChange(pageBytes: UInt64) -> Bool? {
        var index = applied + 1
        while index <= committed {
            let page: [Entry]
            do {
                page = try slice(from: index, to: committed + 1, maxBytes: pageBytes)
            } catch {
                return nil
            }
            for entry in page where entry.kind != .normal { return true }
            index = index + UInt64(page.count)
        }
        return false
    }

    /// Gives back memory that an idle group does not need.
    mutating func releaseBuffers() {
        if buffer.isEmpty { buffer = [] }
        sliceCache = []
    }
}
