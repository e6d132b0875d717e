// Hot path. The log as its owner sees it: the scheduler behind a lock, and the threads that write.
//
//   lane threads    submit(): takes the batch's memory, wakes a writer if one sleeps and a slot is free
//   writer threads  take a group -> write and sync -> report -> deliver -> take the next; sleep only
//                   when there is nothing to take
//   preparer        zeroes the active and the next segment ahead, claims what is durable when idle
//
// The lock is never held across input or output, nor while handlers run. The order of locks is:
// this one only. All of it can be driven by one thread instead (``start(threads:durable:failed:)``
// with `threads: false`), which is how crash tests and the simulator finish writes in any order.

import UkehiBase
package import UkehiEnvironment

/// A batch's place among all batches submitted to a log; later ones are higher.
package typealias Ticket = UInt64

/// One log for all regions of a node.
///
/// What ``submit(_:lane:)`` took is durable when the handler was told a ticket at or past its own;
/// until then nothing may be acknowledged that depends on it (TESTING R1). A failed write or sync
/// ends the log: nothing later is acknowledged, nothing is tried again.
///
/// Safety: all mutable state is touched under `monitor`'s lock, except where a comment says whose
/// it is.
package final class WriteAheadLog: @unchecked Sendable {
    let options: WALOptions
    let store: SegmentStore
    let monitor = Monitor()
    private let clock: any NodeClock
    private let random: any RandomSource

    var scheduler: LogScheduler
    /// Oldest first, the active one last.
    var segments: [SegmentFile]
    /// The segment being prepared; nil while there is none.
    private var spare: SegmentFile?
    /// One thread at a time uses mark and directory, outside of the lock.
    private var isChangingNames = false
    private var mark: LogMark
    private let markFile: any File
    private let directoryLock: any FileLock

    private var durableHandler: (@Sendable (_ lane: Int, _ upTo: Ticket) -> Void)?
    private var failedHandler: (@Sendable (WALError) -> Void)?
    private var isDelivering = false
    private var deliveryScratch: ContiguousArray<LaneTicket> = []
    private var isFailureTold = false

    private var threads: [RunningThread] = []
    private var sleepers: [Sleeper] = []
    private let preparerWakes: Condition
    /// Waiters for durability, names or the end; woken by broadcast, since all of them are rare.
    private let changes: Condition
    private var isStopping = false
    private var isStopped = false
    private var isFull = false
    private var framesAtLastLook: UInt64 = 0
    var counters = WALStatistics()

    /// One writer thread asleep; each has its own condition, so that one batch wakes one thread.
    private final class Sleeper {
        let wakes: Condition
        var isWoken = false
        init(_ monitor: Monitor) { wakes = Condition(monitor) }
    }

    private init(
        store: SegmentStore, recovered: RecoveredLog, random: any RandomSource,
        clock: any NodeClock
    ) {
        options = store.options
        self.store = store
        self.random = random
        self.clock = clock
        scheduler = LogScheduler(
            options: store.options, regions: recovered.regions, end: recovered.end)
        scheduler.activated(recovered.active)
        segments = recovered.sealed + [recovered.active]
        mark = recovered.mark
        markFile = recovered.markFile
        directoryLock = recovered.lock
        preparerWakes = Condition(monitor)
        changes = Condition(monitor)
    }

    /// Opens the log in `directory`, which is created if it is not there, and recovers what was
    /// durable. Nothing runs before ``start(threads:durable:failed:)``.
    ///
    /// - Returns: The log, and every region it knows, ascending.
    /// - Throws: ``WALError`` with ``WALError/Code/corrupted`` when what was acknowledged cannot be
    ///   read, and `.identity`, `.locked`, `.unsupportedVersion`, `.ioFailed` or `.diskFull`. The
    ///   directory is then as it was.
    package static func open(
        fileSystem: any FileSystem, directory: String, options: WALOptions,
        random: any RandomSource, clock: any NodeClock
    ) throws(WALError) -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        try options.validate()
        let store = SegmentStore(fileSystem: fileSystem, directory: directory, options: options)
        let recovered = try Recovery.run(store, random: random)
        let log = WriteAheadLog(
            store: store, recovered: recovered, random: random, clock: clock)
        return (log, recovered.recovered)
    }

    // MARK: Submitting

    /// Takes what `batch` holds and leaves it empty, ready to be filled again; never blocks on
    /// input or output.
    ///
    /// - Parameter lane: Whose durability handler is called; any small number.
    /// - Throws: ``WALError``: `.overloaded` and `.diskFull` leave the batch as it was, to be tried
    ///   again; `.recordTooLarge` never fits; `.failed` is final.
    /// - Complexity: O(directory items); no allocation in the steady state.
    package func submit(_ batch: inout LogBatch, lane: Int) throws(WALError) -> Ticket {
        monitor.lock()
        if let refusal = refusal(of: batch.encodedBytes) {
            monitor.unlock()
            throw refusal
        }
        guard !batch.isEmpty else {
            let ticket = scheduler.durableTicket
            monitor.unlock()
            return ticket
        }
        let ticket = scheduler.stage(&batch.storage, lane: lane)
        let sleeper = scheduler.hasWork ? sleepers.popLast() : nil
        sleeper?.isWoken = true
        monitor.unlock()
        sleeper?.wakes.signal()
        return ticket
    }

    private func refusal(of bytes: Int) -> WALError? {
        if scheduler.failure != nil || isStopping {
            return WALError(.failed, "Nothing was taken: the log has stopped.")
        }
        if bytes > WALLimits.maxBatchBytes {
            return WALError(
                .recordTooLarge,
                "Nothing was taken: a batch of \(bytes) bytes; at most "
                    + "\(WALLimits.maxBatchBytes) fit in a frame.")
        }
        if scheduler.queuedBytes > 0, scheduler.queuedBytes + bytes > options.maxQueueBytes {
            counters.overloads += 1
            return isFull
                ? WALError(
                    .diskFull, "Nothing was taken: the volume is full. Free space on it.")
                : WALError(
                    .overloaded,
                    "Nothing was taken: \(scheduler.queuedBytes) bytes wait to be durable.")
        }
        return nil
    }

    // MARK: Running

    /// Sets the handlers and starts the threads.
    ///
    /// - Parameters:
    ///   - threads: false: the caller drives the log by ``takeWork()``, ``finish(_:failure:)`` and
    ///     ``prepareStep()``.
    ///   - durable: Told once per lane for each frame, or several that ended together: every ticket
    ///     of `lane` up to `upTo` is durable. Called on a log thread, one call at a time, in order.
    ///   - failed: Told once. The process should end with the error's exit code.
    package func start(
        threads: Bool = true,
        durable: @escaping @Sendable (_ lane: Int, _ upTo: Ticket) -> Void,
        failed: @escaping @Sendable (WALError) -> Void
    ) {
        monitor.lock()
        durableHandler = durable
        failedHandler = failed
        monitor.unlock()
        guard threads else { return }
        var started: [RunningThread] = []
        for _ in 0..<options.maxGroupsInFlight {
            if let thread = RunningThread({ [self] in writeLoop() }) { started.append(thread) }
        }
        // Without the preparer or any writer the log could not go on; fewer writers are only slower.
        let preparer = RunningThread { [self] in prepareLoop() }
        if let preparer { started.append(preparer) }
        monitor.withLock { self.threads = started }
        if preparer == nil || started.count < 2 {
            fail(WALError(.ioFailed, "The log has stopped: the system has no thread to give."))
        }
    }

    /// Makes everything submitted durable, ends the threads and lets go of the directory. Later
    /// calls, and calls after a failure, end at once.
    package func stop() {
        monitor.lock()
        guard !isStopping else {
            while !isStopped { changes.wait() }
            monitor.unlock()
            return
        }
        isStopping = true
        preparerWakes.signal()
        let running = threads
        if !running.isEmpty {
            wakeWriter()
            while scheduler.failure == nil, !(scheduler.isDrained && !scheduler.hasUnclaimed) {
                scheduler.claimIfIdle()
                wakeWriter()
                changes.wait()
            }
        }
        isStopped = true
        for sleeper in sleepers {
            sleeper.isWoken = true
            sleeper.wakes.signal()
        }
        sleepers = []
        preparerWakes.signal()
        changes.broadcast()
        monitor.unlock()
        for thread in running { thread.join() }
        monitor.withLock {
            threads = []
            // The handlers' owner holds the log, too.
            durableHandler = nil
            failedHandler = nil
        }
        directoryLock.release()
    }

    /// Blocks until `ticket` is durable; false when it never will be. Only with threads running.
    package func waitUntilDurable(_ ticket: Ticket) -> Bool {
        monitor.withLock {
            while scheduler.durableTicket < ticket {
                if scheduler.failure != nil || isStopped { return false }
                changes.wait()
            }
            return true
        }
    }

    // MARK: Writing

    /// Called with the lock held.
    func wakeWriter() {
        guard scheduler.hasWork, let sleeper = sleepers.popLast() else { return }
        sleeper.isWoken = true
        sleeper.wakes.signal()
    }

    private func writeLoop() {
        let sleeper = Sleeper(monitor)
        monitor.lock()
        while true {
            if let work = scheduler.next(newIncarnation: { random.next() }) {
                // More than one group may be waiting while slots are free.
                wakeWriter()
                monitor.unlock()
                run(work)
                monitor.lock()
                deliver()
                continue
            }
            if scheduler.missingRoom > 0 || needsSpare { preparerWakes.signal() }
            if isStopped { break }
            sleeper.isWoken = false
            sleepers.append(sleeper)
            while !sleeper.isWoken { sleeper.wakes.wait() }
        }
        monitor.unlock()
    }

    /// Does one piece of work and reports it, without the lock.
    private func run(_ work: LogWork) {
        do throws(FileError) {
            switch work {
            case .frame(let group):
                let started = clock.now()
                let bytes = group.fill()
                try group.segment?.file.writeDurably(bytes, at: group.header.offset)
                finished(group, microseconds: (clock.now() - started) / 1000)
            case .activate(let header):
                try activate(header)
            }
        } catch {
            fail(WALError(error, effect: "The log has stopped and acknowledges nothing more"))
        }
    }

    private func finished(_ group: Group, microseconds: UInt64) {
        monitor.withLock {
            counters.syncs += 1
            counters.bytesWritten += UInt64(group.header.frameBytes)
            counters.syncMicroseconds.add(microseconds)
            counters.frameBlocks.add(
                UInt64(group.header.frameBytes / FrameFormat.blockBytes))
            scheduler.completed(group)
            changes.broadcast()
        }
    }

    /// Turns the spare into the next segment. The scheduler waits for it, so nothing else is written.
    private func activate(_ header: SegmentHeader) throws(FileError) {
        var prepared = takeSpare()
        if prepared == nil { prepared = try store.createNext() }
        guard let next = prepared else { return }
        if next.preparedTo < UInt64(SegmentFormat.firstFrameOffset) {
            next.preparedTo = try store.zero(next, from: 0)
        }
        let named = try store.activate(next, header: header)
        try advanceMark { $1 = named.segment }
        monitor.withLock {
            next.header = named
            segments.append(next)
            scheduler.activated(next)
            counters.segmentsActivated += 1
            counters.syncs += 2
            preparerWakes.signal()
        }
    }

    /// Hands tickets to their lanes. Called with the lock held, returns with it; lets go of it
    /// while a handler runs. One thread at a time delivers, so that lanes see tickets in order.
    private func deliver() {
        guard !isDelivering else { return }
        isDelivering = true
        while !scheduler.deliveries.isEmpty, let handler = durableHandler {
            swap(&deliveryScratch, &scheduler.deliveries)
            monitor.unlock()
            for delivery in deliveryScratch where delivery.lane != WriteAheadLog.ownLane {
                handler(delivery.lane, delivery.ticket)
            }
            deliveryScratch.removeAll(keepingCapacity: true)
            monitor.lock()
        }
        isDelivering = false
    }

    /// The lane of records that the log itself adds; nobody is told.
    static let ownLane = Int.min

    func fail(_ error: WALError) {
        monitor.lock()
        scheduler.fail(error)
        let tell = isFailureTold ? nil : failedHandler
        if failedHandler != nil { isFailureTold = true }
        changes.broadcast()
        preparerWakes.signal()
        monitor.unlock()
        tell?(error)
    }

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

    private var needsSpare: Bool { spare == nil && scheduler.active?.isPrepared ?? false }

    /// The spare, which stops being it. While the scheduler waits for a segment, the preparer begins
    /// nothing new; what it is at is awaited where it concerns the file's beginning.
    private func takeSpare() -> SegmentFile? {
        monitor.withLock {
            while isPreparing, spare?.preparedTo ?? 0 == 0 { changes.wait() }
            defer { spare = nil }
            return spare
        }
    }

    private var isPreparing = false

    /// Does one step of preparation, if there is any to do; false when all is prepared.
    ///
    /// Called by the preparer, or, without threads, by the driver.
    @discardableResult
    package func prepareStep() -> Bool {
        monitor.lock()
        guard scheduler.failure == nil, let active = scheduler.active, !scheduler.isActivating else {
            monitor.unlock()
            return false
        }
        let target: SegmentFile? = active.isPrepared ? spare : active
        let offset = target?.preparedTo ?? 0
        if let target, target.isPrepared {
            monitor.unlock()
            return false
        }
        isPreparing = true
        monitor.unlock()
        var made: SegmentFile?
        var reached: UInt64?
        var failure: FileError?
        do throws(FileError) {
            if let target {
                reached = try store.zero(target, from: offset)
            } else {
                made = try store.createNext()
            }
        } catch {
            failure = error
        }
        monitor.lock()
        isPreparing = false
        if let made { spare = made }
        if let target, let reached { target.preparedTo = reached }
        isFull = failure?.kind == .noSpace
        scheduler.roomGrew()
        wakeWriter()
        changes.broadcast()
        monitor.unlock()
        if let failure, failure.kind != .noSpace {
            fail(
                WALError(failure, effect: "The log has stopped and acknowledges nothing more"))
        }
        return failure == nil
    }

    private func prepareLoop() {
        monitor.lock()
        while !isStopped {
            monitor.unlock()
            let didWork = prepareStep()
            monitor.lock()
            if isStopped || scheduler.failure != nil { break }
            if scheduler.missingRoom > 0, !isFull { continue }
            claimWhenIdle()
            if didWork {
                // Nobody waits: leave the disk to others most of the time.
                preparerWakes.wait(nanoseconds: 4_000_000)
            } else if isFull {
                preparerWakes.wait(nanoseconds: 200_000_000)
            } else if scheduler.hasUnclaimed || !scheduler.isDrained {
                preparerWakes.wait(nanoseconds: options.idleClaimNanoseconds)
            } else {
                preparerWakes.wait(nanoseconds: 1_000_000_000)
            }
        }
        monitor.unlock()
    }

    /// Claims if no frame was written since the last look. Called with the lock held.
    private func claimWhenIdle() {
        if scheduler.framesWritten == framesAtLastLook {
            scheduler.claimIfIdle()
            wakeWriter()
        }
        framesAtLastLook = scheduler.framesWritten
    }

    // MARK: Driving by hand

    /// The next piece of work for a driver without threads.
    func takeWork() -> LogWork? {
        monitor.withLock { scheduler.next(newIncarnation: { random.next() }) }
    }

    /// Reports a frame written durably by a driver without threads; calls the handlers.
    func finish(_ group: Group) {
        finished(group, microseconds: 0)
        monitor.lock()
        deliver()
        monitor.unlock()
    }

    /// Does a piece of work at once, for a driver without threads.
    func perform(_ work: LogWork) {
        run(work)
        monitor.lock()
        deliver()
        monitor.unlock()
    }

    /// Asks for a claim of what is durable, if nothing is under way.
    package func claimIfIdle() {
        monitor.withLock {
            scheduler.claimIfIdle()
            wakeWriter()
        }
    }

    // MARK: Looking

    package var statistics: WALStatistics {
        monitor.withLock {
            var now = counters
            now.frames = scheduler.framesWritten
            now.batches = scheduler.batchesWritten
            now.queuedBytes = scheduler.queuedBytes
            now.segments = segments.count
            now.regions = scheduler.regions.count
            return now
        }
    }
}

extension SegmentFile {
    /// Whether all of it may be written.
    var isPrepared: Bool { preparedTo >= header.capacity }
}
