// Entries that hold many dead bytes back are written again at the log's end.
//
//   oldest | lagging region's | dead ... | dead ... | resting region's | dead ... | what others need ...
//            entries 7 to 9                           entries 1 to 3
//
// The owner is told first who holds the oldest segment back, and can often let go (``PurgeStep``). A
// region that cannot, since a peer lags or nothing of it was flushed, would keep everything that others
// wrote since. So once some of the oldest segments are at least two, and twice what regions hold of
// them, those regions' whole logs are appended again as they are, the oldest segment's first: for the
// log a conflict that changes nothing. Hence
//
//   - space is about twice what is held back so, beside what other regions need;
//   - of each byte appended about half a byte is written again at most, since a rewrite frees twice
//     its own size, which was appended before.
//
// Nothing may come between reading a region's entries and appending them: a region that has records
// under way, or got some meanwhile, is left for the next time.

import UkehiBase

extension WriteAheadLog {
    /// Whether writing entries again frees enough, if it is gone on with.
    func isWorthRewriting(from oldest: UInt64) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        let sealed = segments.dropLast()
        guard sealed.count >= WALLimits.leastFreedByRewriting else { return false }
        // Sealed segments do not change, only go.
        let sizes = sealed.map { Int($0.end ?? 0) }
        var held = HeldBytes(oldest: oldest, segments: sealed.count)
        while held.lookOn(scheduler.regions) {
            monitor.unlock()
            monitor.lock()
        }
        return held.isWorthRewriting(sizes)
    }

    /// Appends the entries of regions in these slots again, a group's worth; nil if none could be.
    func rewrite(_ slots: [Int]) -> PurgeStep? {
        var batch = newBatch()
        var (count, bytes) = (0, 0)
        var last: Ticket?
        for slot in slots where bytes < options.maxGroupBytes / 2 {
            guard let source = monitor.withLock({ quiet(slot) }),
                let entries = entries(of: source)
            else { continue }
            // With its hard state, which need not be carried then.
            batch.append(
                region: source.region,
                hardState: source.hardState == .empty ? nil : source.hardState, entries: entries)
            let size = batch.encodedBytes
            let ticket = monitor.withLock { () -> Ticket? in
                guard scheduler.failure == nil, quiet(slot) == source else { return nil }
                counters.regionsRewritten += 1
                counters.rewrittenBytes += UInt64(size)
                return scheduler.stage(&batch.storage, lane: WriteAheadLog.ownLane)
            }
            batch.removeAll()
            guard let ticket else { continue }
            last = ticket
            count += 1
            bytes += size
        }
        guard let last else { return nil }
        monitor.withLock { wakeWriter() }
        return .carried(regions: count, last)
    }

    /// A region's entries, all of them durable.
    private struct QuietLog: Equatable {
        var region: RegionID
        var first: LogIndex
        var last: LogIndex
        var hardState: HardState
        /// The region's newest record: another one means that something came between.
        var lastLSN: UInt64
    }

    /// The region's log if nothing of it is under way and it is small enough for a frame. Called with
    /// the lock held.
    private func quiet(_ slot: Int) -> QuietLog? {
        let region = scheduler.regions[slot]
        let state = region.staged
        guard state.lastLSN <= scheduler.durableLSN, state.firstIndex <= state.lastIndex,
            // A block may begin with entries that are compacted away.
            region.index.first.map({ $0.first <= state.firstIndex.rawValue }) ?? false,
            region.index.last.map({ $0.end }) == state.lastIndex.rawValue + 1,
            liveRawBytes(region) <= min(WALLimits.maxRewrittenBytes, options.segmentBytes / 2)
        else { return nil }
        return QuietLog(
            region: region.region, first: state.firstIndex, last: state.lastIndex,
            hardState: state.hardState, lastLSN: state.lastLSN)
    }

    private func liveRawBytes(_ region: RegionLog) -> Int {
        region.index.live.reduce(0) { $0 + Int($1.rawBytes) }
    }

    /// Reads them; nil if they cannot be, which those who need them are told when they read.
    private func entries(of log: QuietLog) -> [Entry]? {
        var found: [Entry] = []
        var next = log.first
        do throws(WALError) {
            while next <= log.last {
                let some = try entries(
                    region: log.region, from: next, to: log.last + 1,
                    maxBytes: WALLimits.maxRewrittenBytes)
                guard let end = some.last?.index else { return nil }
                found += some
                next = end + 1
            }
        } catch {
            return nil
        }
        return found
    }
}
