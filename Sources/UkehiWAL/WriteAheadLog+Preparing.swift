// What goes on ahead of the writers: the next segment, the mark, and the idle claim.
//
// The preparer zeroes the rest of the active segment first, then makes and zeroes the next one, or
// takes a dead one's file, whose blocks are all written: so a log whose old end is freed as fast as
// its new one grows writes each byte once. A writer that needs a segment takes the spare as soon as
// its first chunk is ready; the preparer goes on zeroing it as the active one. Frames are placed only
// where that is done. The footers of sealed segments are written in between; nobody waits for them.
// Last comes what a reserve for a start on a full volume lacks.

package import UkehiEnvironment

/// What a log can write without another segment.
package enum LogRoom: Sendable {
    /// The next segment is there, or being made.
    case ample
    /// There was no room on the volume for the next one when that was last tried, or no descriptor. What is left
    /// of the one in use, most of it when this begins, can be written still.
    case lastSegment
    /// Less than half of that one is left.
    case scarce
}

extension WriteAheadLog {
    // MARK: Names

    /// Changes the mark durably. One thread at a time; waits for the other.
    func advanceMark(
        _ change: (_ oldest: inout UInt64, _ newest: inout UInt64) -> Void
    ) throws(FileError) {
        monitor.lock()
        while isChangingNames { changes.wait() }
        isChangingNames = true
        var next = mark
        monitor.unlock()
        defer {
            monitor.lock()
            isChangingNames = false
            changes.broadcast()
            monitor.unlock()
        }
        var oldest = next.oldest
        var newest = next.newest
        change(&oldest, &newest)
        try next.advance(oldest: oldest, newest: newest, in: markFile)
        let advanced = next
        monitor.withLock { mark = advanced }
    }

    // MARK: Preparing

    /// The spare, which stops being it, if it has room for a header; the preparer may go on zeroing
    /// behind that. If there is none, the activation is put off until the preparer made one.
    func takeSpare() -> SegmentFile? {
        monitor.withLock {
            if spare != nil, options.rarePaths.takes(.spareDropped) { spare = nil }
            guard let ready = spare, ready.preparedTo >= UInt64(SegmentFormat.firstFrameOffset)
            else {
                scheduler.postponeActivation()
                preparerWakes.signal()
                return nil
            }
            spare = nil
            return ready
        }
    }

    /// Does one step of preparation, if there is any to do; false when all is prepared.
    ///
    /// Called by the preparer, or, without threads, by the driver.
    @discardableResult
    package func prepareStep() -> Bool {
        if options.rarePaths.takes(.preparedLate) { return false }
        monitor.lock()
        guard scheduler.failure == nil, let active = scheduler.active, !scheduler.isActivating
        else {
            monitor.unlock()
            return false
        }
        // Room that a writer waits for goes first.
        if scheduler.missingRoom == 0, !scheduler.footers.waiting.isEmpty {
            monitor.unlock()
            return writeNextFooter()
        }
        let target: SegmentFile? = active.isPrepared ? spare : active
        let offset = target?.preparedTo ?? 0
        // That no segment will follow this one is to be known while most of it is left.
        let looksAhead =
            target === active && active.header.isAllocated && spare == nil
            && idleSegments.count == 0
        let idle = target == nil ? idleSegments.take() : nil
        idle?.end = nil
        if let target, target.isPrepared {
            let isDue = isReserveDue
            monitor.unlock()
            return isDue && enlargeReserve()
        }
        monitor.unlock()
        var made: SegmentFile?
        var reached: UInt64?
        var failure: FileError?
        do throws(FileError) {
            if let target {
                reached = try store.zero(target, from: offset)
                if looksAhead { try checkRoom() }
            } else if let idle {
                made = try store.reuse(idle)
            } else {
                made = try createNext()
            }
        } catch {
            failure = error
        }
        monitor.lock()
        if let made { spare = made }
        if idle != nil, made != nil { counters.segmentsReused += 1 }
        if let target, let reached { target.preparedTo = reached }
        scheduler.failsToZero = target === active && failure != nil && reached == nil
        isShortageForeseen = failure != nil && reached != nil
        shortage = failure.flatMap { $0.isShortage ? $0 : nil }
        if failure == nil || reached != nil {
            scheduler.roomGrew()
            wakeWriter()
        }
        changes.broadcast()
        monitor.unlock()
        if let failure, !failure.isShortage {
            fail(
                WALError(failure, effect: "The log has stopped and acknowledges nothing more"))
        }
        // Where a whole segment has no room, the little that the next start needs may have.
        if failure?.kind == .noSpace, monitor.withLock({ isReserveDue }) { enlargeReserve() }
        return failure == nil || reached != nil
    }

    /// What cannot have all its blocks is not begun: it would take what is free, for a moment,
    /// from others who need little of it.
    private func checkRoom() throws(FileError) {
        guard store.fileSystem.freeBytes(store.directory) >= UInt64(options.segmentBytes) else {
            throw FileError(
                kind: .noSpace, operation: "statvfs", path: store.directory, errno: 28)
        }
    }

    private func createNext() throws(FileError) -> SegmentFile {
        try checkRoom()
        return try store.createNext(byteCount: options.segmentBytes)
    }

    /// Whether to look for room for a reserve, or for a larger one. Called with the lock held.
    private var isReserveDue: Bool {
        reserve != .impossible && reserve.byteCount < store.reserveBytes
            && clock.now() >= reserveDue
    }

    /// Makes the reserve, or more of it; whether that was done.
    @discardableResult
    private func enlargeReserve() -> Bool {
        let old = monitor.withLock { reserve }
        do throws(FileError) {
            let free = store.fileSystem.freeBytes(store.directory)
            let made = try store.makeReserve(old, within: free)
            monitor.withLock {
                reserve = made
                reserveDue = clock.now() + WALLimits.reserveRetryNanoseconds
            }
            return made != old
        } catch {
            fail(WALError(error, effect: "The log has stopped and acknowledges nothing more"))
            return false
        }
    }

    /// Writes the footer that has waited longest; false if none waits, or the log has stopped.
    private func writeNextFooter() -> Bool {
        let next: (footer: SealedFooter, isLive: Bool)? = monitor.withLock {
            guard scheduler.failure == nil, let footer = scheduler.footers.next() else {
                return nil
            }
            return (footer, segments.contains { $0 === footer.segment })
        }
        guard let next else { return false }
        if next.isLive { write(next.footer) }
        monitor.withLock { scheduler.footers.recycle(next.footer.records) }
        return true
    }

    /// Writes a sealed segment's footer. While this holds the segment its file begins no other life.
    private func write(_ footer: SealedFooter) {
        if options.rarePaths.takes(.footerLeftOut) { return }
        let bytes = footer.records.finish(
            segment: footer.segment.header, end: footer.offset, lastLSN: footer.lastLSN,
            lastChecksum: footer.lastChecksum)
        do throws(FileError) {
            try footer.segment.file.writeDurably(bytes, at: footer.offset)
            monitor.withLock {
                counters.footersWritten += 1
                counters.syncs += 1
            }
        } catch {
            // Without a footer the segment is as good as with one; a disk that fails is not.
            guard error.kind != .noSpace else {
                // It may have got a part of its blocks, which others need; one of this process had all of
                // them, and may have another life, in which it needs them.
                if !footer.segment.isOwn { try? footer.segment.file.truncate(to: footer.offset) }
                return
            }
            fail(WALError(error, effect: "The log has stopped and acknowledges nothing more"))
        }
    }

    func prepareLoop() {
        monitor.lock()
        while !isStopped {
            monitor.unlock()
            let didWork = prepareStep()
            monitor.lock()
            if isStopped || scheduler.failure != nil { break }
            if scheduler.missingRoom > 0, !isFull || didWork { continue }
            claimWhenIdle()
            monitor.unlock()
            let untilScrub = scrubStep()
            monitor.lock()
            if isStopped || scheduler.failure != nil { break }
            if scheduler.missingRoom > 0, !isFull || didWork { continue }
            let rest: UInt64
            if didWork {
                // Nobody waits: leave the disk to others most of the time.
                rest = 4_000_000
            } else if isFull {
                rest = 200_000_000
            } else if scheduler.hasUnclaimed || !scheduler.isDrained {
                rest = options.idleClaimNanoseconds
            } else {
                rest = 1_000_000_000
            }
            preparerWakes.wait(nanoseconds: min(rest, untilScrub ?? rest))
        }
        monitor.unlock()
        // The next start finds them all.
        while writeNextFooter() {}
    }

    /// Claims if no frame was written since the last look. Called with the lock held.
    private func claimWhenIdle() {
        if scheduler.framesWritten == framesAtLastLook {
            scheduler.claimIfIdle()
            wakeWriter()
        }
        framesAtLastLook = scheduler.framesWritten
    }

    /// How much can be written still, as far as is known without trying; and in bytes what the segment in use
    /// has left behind all that waits, and what it has in all.
    package var roomLeft: (room: LogRoom, bytes: Int, segmentBytes: Int) {
        monitor.withLock {
            (
                isFull ? isScarce ? .scarce : .lastSegment : .ample,
                Int(scheduler.roomBehindAll),
                Int(scheduler.active?.header.capacity ?? 0)
            )
        }
    }

    /// What a batch of this one record takes of it, at most.
    package static func bytesTaken(byRecordOf bytes: Int) -> Int {
        FrameFormat.frameBytes(itemCount: 1, bodyBytes: bytes)
    }

    /// Why there is no more room than that.
    package var roomShortage: FileError? { monitor.withLock { shortage } }

    /// Whether what is left without another segment is to be kept. Called with the lock held.
    var isScarce: Bool {
        isFull && scheduler.roomAhead < UInt64(options.segmentBytes / 2)
    }

    /// Whether nothing can be written for want of space. Called with the lock held.
    var isStarved: Bool {
        isFull && scheduler.missingRoom > 0 && !isShortageForeseen
    }

    /// Called with the lock held, when what it follows from has changed.
    func learnWhetherLast() {
        let isLast = isFull && spare == nil
        guard isLast != scheduler.isLast else { return }
        scheduler.isLast = isLast
        // What had no room with a footer behind it may have some now.
        guard isLast else { return }
        scheduler.roomGrew()
        wakeWriter()
    }
}
