// Freeing dead segments, strictly oldest first.
//
//   oldest segment  | entries that some region still needs        -> it stays; the regions are named, or
//                   |                                                the entries said again at the end
//                   | hard states, beginnings, births, tombstones -> said again at the log's end
//                   | nothing                                     -> mark raised, file removed or
//                                                                       kept for its next life
//
// Why this is safe. A carry record restates a region's state as it is at the record's own place, so
// replaying with it or without it is the same. Once it is durable, nothing of that region in older
// segments matters: entries there are dead, and everything else is superseded by the carry. And
// since no segment goes before an older one, no record outlives the record that cancelled it.

package import UkehiBase
import UkehiEnvironment

/// What one step of purging did.
package enum PurgeStep: Sendable, Hashable {
    /// Only the active segment is left, or the log has stopped.
    case done
    /// These regions' entries hold the oldest segment back; ascending.
    case pinned([RegionID])
    /// States or entries of this many regions were written again; go on when the ticket is durable. 0:
    /// those of an earlier step are still under way.
    case carried(regions: Int, Ticket)
    /// The oldest segment is gone.
    case removed(segment: UInt64)
}

extension WriteAheadLog {
    /// Removes every segment that nothing needs any more, oldest first. Blocks on input and output;
    /// for a background thread, with the log's threads running.
    ///
    /// - Returns: The regions whose entries hold the oldest segment back, as ``pinnedBy()``.
    /// - Throws: ``WALError``: `.ioFailed`, and the log has stopped.
    @discardableResult
    package func purge() throws(WALError) -> [RegionID] {
        while true {
            switch try purgeStep() {
            case .done: return []
            case .pinned(let regions): return regions
            case .removed: continue
            case .carried(_, let ticket):
                guard waitUntilDurable(ticket) else { return [] }
            }
        }
    }

    /// The regions whose entries are in the oldest segment, ascending; none if it is the active one.
    package func pinnedBy() -> [RegionID] {
        monitor.lock()
        defer { monitor.unlock() }
        guard let oldest = oldestSealed, let scan = scan(oldest) else { return [] }
        return scan.pinningRegions
    }

    /// One step of ``purge()``, for a driver without threads.
    package func purgeStep() throws(WALError) -> PurgeStep {
        let step = try nextStep()
        switch step {
        case .removed, .carried: break
        case .done, .pinned: try endBurst()
        }
        return step
    }

    private func nextStep() throws(WALError) -> PurgeStep {
        monitor.lock()
        guard let oldest = oldestSealed, scheduler.failure == nil else {
            monitor.unlock()
            return .done
        }
        guard let scan = scan(oldest), scheduler.failure == nil else {
            // Another thread was faster.
            monitor.unlock()
            return .done
        }
        if !scan.pinning.isEmpty {
            // Saying again what is so changes nothing, so it may be done before it is needed.
            // What has no room would only wait, and more of it with each step.
            let isEarly = !isScarce && options.rarePaths.takes(.carriedEarly)
            let early = isEarly ? carry(scan) : nil
            let isWorth =
                isEarly
                || !isScarce && isWorthRewriting && (oldest <= toldSegment || isPressing)
                    // From what is left only where much more comes of it.
                    && (!scheduler.isLast || mayRewriteFromLast(oldest))
            // Of what is sealed by now the owner is told, if nothing comes of it.
            let newest = segments[segments.count - 2].header.segment
            monitor.unlock()
            if let early { return early }
            if isWorth, let step = rewrite(scan) { return step }
            monitor.withLock { toldSegment = max(toldSegment, newest) }
            return .pinned(scan.pinningRegions)
        }
        #if BugBank
            let carries = !PlantedBug.statesNotCarried.isPlanted
        #else
            let carries = true
        #endif
        if carries, !scan.carrying.isEmpty {
            // Where states are most of a segment, little is gained by moving them.
            // It frees the segment, and takes what the states of its regions take.
            let isWorth =
                (isMostlyDead(oldest) || isWorthRewriting)
                && (!scheduler.isLast || hasRoomTwice(for: scan))
            let step = isWorth ? carry(scan) : .done
            if let step {
                monitor.unlock()
                return step
            }
        }
        var removed = segments.removeFirst()
        scheduler.use.removeOldest()
        counters.segmentsRemoved += 1
        monitor.unlock()
        do throws(FileError) {
            // First the mark: a segment before its `oldest` is dead, whether its file is there or not.
            try advanceMark { (first, _) in first = max(first, oldest + 1) }
            if !options.rarePaths.takes(.deadSegmentKept), !keepForReuse(&removed) {
                try store.remove(segment: oldest)
            }
        } catch {
            throw stopped(by: error)
        }
        // In-process readers may still hold the file; its space is freed when they let go.
        _ = removed
        return .removed(segment: oldest)
    }

    /// Keeps a dead segment's file for the preparer. It stays under its name, which means nothing
    /// any more, so that a crash leaves no more than a removal that did not happen would.
    private func keepForReuse(_ segment: inout SegmentFile) -> Bool {
        monitor.lock()
        defer { monitor.unlock() }
        // A footer that was not written yet is no longer worth it, and holds the file.
        scheduler.footers.drop(segment)
        guard idleSegments.hasRoom, !isFull, segment.isOwn, segment.isPrepared,
            segment.header.capacity == UInt64(options.segmentBytes),
            // A reader that still holds it would find other bytes; none can get it any more.
            isKnownUniquelyReferenced(&segment)
        else { return false }
        idleSegments.add(segment)
        return true
    }

    /// Lets go of a dead file that the log's growth no longer needs, one at a time.
    private func endBurst() throws(WALError) {
        let excess = monitor.withLock { () -> SegmentFile? in
            guard scheduler.failure == nil else { return nil }
            idleSegments.burstEnded()
            return idleSegments.takeExcess()
        }
        guard let excess else { return }
        do throws(FileError) {
            try store.remove(segment: excess.header.segment)
        } catch {
            throw stopped(by: error)
        }
    }

    private func stopped(by error: FileError) -> WALError {
        let failure = WALError(error, effect: "The log has stopped and acknowledges nothing more")
        fail(failure)
        return failure
    }

    private var oldestSealed: UInt64? {
        segments.count > 1 ? segments.first?.header.segment : nil
    }

    /// Which regions need the oldest segment; nil if it is gone meanwhile. Called with the lock held, lets
    /// go of it in between.
    private func scan(_ oldest: UInt64) -> PurgeScan? {
        var scan = purgeScan
        scan.begin(oldest)
        // Mostly nobody needs it, which takes no walk to know.
        if scheduler.use[oldest].isFree { return scan }
        while scan.lookOn(scheduler.regions) {
            monitor.unlock()
            monitor.lock()
        }
        guard oldest == oldestSealed else { return nil }
        purgeScan = scan
        return scan
    }

    /// Called with the lock held.
    private func isMostlyDead(_ segment: UInt64) -> Bool {
        let bytes = self.segment(segment)?.fileBytes ?? 0
        return 2 * scheduler.use[segment].liveBytes <= bytes
    }

    /// Whether what is needed of a segment is to be written again into the last one. Called with the lock held.
    private func mayRewriteFromLast(_ segment: UInt64) -> Bool {
        isMostlyDead(segment) && scheduler.active?.header.mayHoldRewrites == true
    }

    /// Whether all states that `scan` found take at most half of what is left. Called with the lock held.
    private func hasRoomTwice(for scan: PurgeScan) -> Bool {
        var batch = LogBatch()
        for slot in scan.carrying where scheduler.regions[slot].hasState(in: scan.segment) {
            batch.carry(
                region: scheduler.regions[slot].region, state: scheduler.regions[slot].staged)
            let bytes = FrameFormat.frameBytes(
                itemCount: batch.storage.itemCount, bodyBytes: batch.storage.bodyBytes)
            if 2 * UInt64(bytes) > scheduler.roomBehindAll { return false }
        }
        return true
    }

    /// Writes the states that `scan` found again, at most a group's worth, and no more than there is room
    /// for. Called with the lock held; nil when there are none.
    private func carry(_ scan: PurgeScan) -> PurgeStep? {
        var batch = LogBatch()
        var count = 0
        var hasRoom = true
        for slot in scan.carrying where scheduler.regions[slot].hasState(in: scan.segment) {
            batch.carry(
                region: scheduler.regions[slot].region, state: scheduler.regions[slot].staged)
            hasRoom = scheduler.hasRoom(for: batch.storage)
            if !hasRoom {
                batch.keepItems { $0 < count }
                break
            }
            count += 1
            if batch.encodedBytes >= options.maxGroupBytes / 2
                || options.rarePaths.takes(.carriedAlone)
            {
                break
            }
        }
        guard count > 0 else { return hasRoom ? nil : .done }
        counters.statesCarried += UInt64(count)
        counters.carriedBytes += UInt64(batch.encodedBytes)
        let ticket = scheduler.stage(&batch.storage, lane: WriteAheadLog.ownLane)
        wakeWriter()
        return .carried(regions: count, ticket)
    }
}
