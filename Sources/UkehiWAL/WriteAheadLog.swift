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
    let clock: any NodeClock
    private let random: any RandomSource

    var scheduler: LogScheduler
    /// Oldest first, the active one last.
    var segments: [SegmentFile]
    /// The segment being prepared; nil while there is none.
    var spare: SegmentFile? { didSet { learnWhetherLast() } }
    var idleSegments: IdleSegments
    var purgeScan = PurgeScan()
    /// The newest segment of which the owner was told who holds the log back.
    var toldSegment: UInt64 = 0
    /// One thread at a time writes entries again; the last of them that were.
    var isRewriting = false
    /// That thread's: what was told of the segment that is being written again.
    var toldUnreadable: (segment: UInt64, bodies: Set<DamagedEntries>) = (0, [])
    var rewriteTicket: Ticket = 0
    /// One thread at a time uses mark and directory, outside of the lock.
    var isChangingNames = false
    var mark: LogMark
    let markFile: any File
    private let directoryLock: any FileLock

    private var durableHandler: (@Sendable (_ lane: Int, _ upTo: Ticket) -> Void)?
    private var failedHandler: (@Sendable (WALError) -> Void)?
    /// Set before the threads run.
    private(set) var damagedHandler: (@Sendable (LogDamage) -> Void)?
    /// The preparer's.
    let scrubber: Scrubber
    private var isDelivering = false
    private var deliveryScratch: ContiguousArray<LaneTicket> = []
    private var isFailureTold = false

    private var threads: [RunningThread] = []
    private var sleepers: [Sleeper] = []
    /// Writer threads, asleep or not.
    private var writers = 0
    let preparerWakes: Condition
    /// Waiters for durability, names or the end; woken by broadcast, since all of them are rare.
    let changes: Condition
    private var isStopping = false
    var isStopped = false
    /// What the next segment could not be made for when that was last tried: no space, or no descriptor.
    var shortage: FileError? { didSet { learnWhetherLast() } }
    var isFull: Bool { shortage != nil }
    /// It was only asked for: the segment in use is still being zeroed.
    var isShortageForeseen = false
    /// The preparer's, but for reading.
    var reserve: SegmentReserve
    /// When to look for room for a larger one.
    var reserveDue = MonotonicTime(nanoseconds: 0)
    var framesAtLastLook: UInt64 = 0
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
        let active = recovered.active.header.segment
        scheduler = LogScheduler(
            options: store.options, regions: recovered.regions,
            use: SegmentUse(
                recovered.regions,
                oldest: recovered.sealed.first?.header.segment ?? active, newest: active),
            end: recovered.end)
        scheduler.activated(recovered.active)
        if let footer = recovered.footer { scheduler.footers.add(recovered: footer) }
        segments = recovered.sealed + [recovered.active]
        idleSegments = IdleSegments(segmentBytes: store.options.segmentBytes)
        mark = recovered.mark
        reserve = recovered.reserve
        markFile = recovered.markFile
        directoryLock = recovered.lock
        scrubber = Scrubber(bytesPerSecond: store.options.scrubBytesPerSecond)
        preparerWakes = Condition(monitor)
        changes = Condition(monitor)
        shortage = recovered.shortage
        learnWhetherLast()
    }

    /// Opens the log in `directory`, which is created if it is not there, and recovers what was
    /// durable. Nothing runs before ``start(threads:durable:failed:)``.
    ///
    /// - Parameter parallel: Reads segments side by side.
    /// - Returns: The log, and every region it knows, ascending.
    /// - Throws: ``WALError`` with ``WALError/Code/corrupted`` when what was acknowledged cannot be
    ///   read, and `.identity`, `.locked`, `.unsupportedVersion`, `.ioFailed` or `.diskFull`. The
    ///   directory is then as it was.
    package static func open(
        fileSystem: any FileSystem, directory: String, options: WALOptions,
        random: any RandomSource, clock: any NodeClock,
        parallel: any ParallelRunner = SerialRunner()
    ) throws(WALError) -> (log: WriteAheadLog, regions: [RecoveredRegion]) {
        try options.validate()
        let store = SegmentStore(fileSystem: fileSystem, directory: directory, options: options)
        let recovered = try Recovery.run(store, random: random, parallel: parallel)
        let log = WriteAheadLog(
            store: store, recovered: recovered, random: random, clock: clock)
        return (log, recovered.recovered)
    }

    // MARK: Submitting

    /// An empty batch for this log, which compresses as its options say. To be kept and filled again.
    package func newBatch() -> LogBatch {
        LogBatch(
            compressor: options.compressionThresholdBytes.map {
                BodyCompressor(thresholdBytes: $0)
            })
    }

    /// Takes what `batch` holds and leaves it empty, ready to be filled again; never blocks on
    /// input or output.
    ///
    /// - Parameter lane: Whose durability handler is called; any small number.
    /// - Throws: ``WALError``: `.overloaded` and `.diskFull` leave the batch as it was, to be tried
    ///   again; `.recordTooLarge` never fits; `.failed` is final.
    /// - Complexity: O(directory items); no allocation in the steady state.
    package func submit(_ batch: inout LogBatch, lane: Int) throws(WALError) -> Ticket {
        monitor.lock()
        if let refusal = refusal(of: batch) {
            monitor.unlock()
            throw refusal
        }
        guard !batch.isEmpty else {
            let ticket = scheduler.durableTicket
            monitor.unlock()
            return ticket
        }
        let ticket = scheduler.stage(&batch.storage, lane: lane)
        let sleeper = sleeperToWake()
        monitor.unlock()
        sleeper?.wakes.signal()
        return ticket
    }

    private func refusal(of batch: borrowing LogBatch) -> WALError? {
        let bytes = batch.encodedBytes
        if scheduler.failure != nil || isStopping {
            return WALError(.failed, "Nothing was taken: the log has stopped.")
        }
        if bytes > WALLimits.maxBatchBytes {
            return WALError(
                .recordTooLarge,
                "Nothing was taken: a batch of \(bytes) bytes; at most "
                    + "\(WALLimits.maxBatchBytes) fit in a frame.")
        }
        if isStarved || !scheduler.hasRoom(for: batch.storage) {
            counters.overloads += 1
            return WALError(
                .diskFull,
                "Nothing was taken: the prepared room is used up, and the next segment cannot be made: "
                    + "\(shortage.map { "\($0)" } ?? "").")
        }
        if scheduler.queuedBytes > 0,
            scheduler.queuedBytes + bytes > options.maxQueueBytes
                || options.rarePaths.takes(.batchRefused)
        {
            counters.overloads += 1
            return WALError(
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
    ///   - damaged: Told on a log thread of what the background check found, once for each place. The
    ///     log goes on.
    package func start(
        threads: Bool = true,
        durable: @escaping @Sendable (_ lane: Int, _ upTo: Ticket) -> Void,
        failed: @escaping @Sendable (WALError) -> Void,
        damaged: (@Sendable (LogDamage) -> Void)? = nil
    ) {
        monitor.lock()
        durableHandler = durable
        failedHandler = failed
        damagedHandler = damaged
        monitor.unlock()
        guard threads else { return }
        var started: [RunningThread] = []
        for _ in 0..<scheduler.mostInFlight {
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
            while scheduler.failure == nil, !(scheduler.isDrained && !scheduler.hasUnclaimed),
                !isStarved
            {
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
            damagedHandler = nil
        }
        directoryLock.release()
    }

    /// Whether threads of its own write; otherwise its owner does.
    package var isThreaded: Bool { monitor.withLock { !threads.isEmpty } }

    /// Blocks until `ticket` is durable; false when it never will be, or not before somebody frees space on
    /// the volume. Only with threads running.
    package func waitUntilDurable(_ ticket: Ticket) -> Bool {
        monitor.withLock {
            while scheduler.durableTicket < ticket {
                if scheduler.failure != nil || isStopped || isStarved { return false }
                changes.wait()
            }
            return true
        }
    }

    /// Whether `ticket` is durable by now.
    package func isDurable(_ ticket: Ticket) -> Bool {
        monitor.withLock { scheduler.durableTicket >= ticket }
    }

    // MARK: Writing

    /// Called with the lock held.
    func wakeWriter() {
        sleeperToWake()?.wakes.signal()
    }

    /// A writer to signal, if there is work that none of those awake will soon take: each of them looks
    /// for work before it sleeps. Waking more than may have a frame that can still grow would only
    /// make frames smaller.
    private func sleeperToWake() -> Sleeper? {
        guard scheduler.hasWork,
            writers - sleepers.count < options.maxGroupsInFlight || scheduler.hasFullGroup,
            let sleeper = sleepers.popLast()
        else { return nil }
        sleeper.isWoken = true
        return sleeper
    }

    private func writeLoop() {
        let sleeper = Sleeper(monitor)
        monitor.lock()
        writers += 1
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
            if scheduler.missingRoom > 0 { preparerWakes.signal() }
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
                try write(group)
                finished(group, nanoseconds: clock.now() - started)
            case .activate(let header):
                try activate(header)
            }
        } catch {
            fail(WALError(error, effect: "The log has stopped and acknowledges nothing more"))
        }
    }

    /// Writes a group's frame durably. On a volume that is full it is tried once more: the same bytes,
    /// written and synced anew. Its file was filled before, so that it may well have been another's
    /// shortage that has passed; meanwhile nothing behind it is acknowledged.
    private func write(_ group: Group) throws(FileError) {
        let bytes = group.fill()
        guard let file = group.segment?.file else { return }
        do throws(FileError) {
            try file.writeDurably(bytes, at: group.header.offset)
        } catch {
            // A failed sync is of another kind, and never tried again (TESTING R2).
            guard error.kind == .noSpace else { throw error }
            monitor.withLock { counters.framesWrittenTwice += 1 }
            do throws(FileError) {
                try file.write(bytes, at: group.header.offset)
                try file.sync()
            } catch {
                var last = error
                last.kind = .noSpace
                throw last
            }
        }
    }

    private func finished(_ group: Group, nanoseconds: UInt64) {
        monitor.withLock {
            counters.syncs += 1
            counters.bytesWritten += UInt64(group.header.frameBytes)
            scheduler.histograms.syncNanoseconds.record(nanoseconds)
            scheduler.completed(group)
            changes.broadcast()
        }
    }

    /// Turns the spare into the next segment. The scheduler waits for it, so nothing else is written.
    private func activate(_ header: SegmentHeader) throws(FileError) {
        guard let next = takeSpare() else { return }
        let named = try store.activate(next, header: header)
        try advanceMark { $1 = named.segment }
        monitor.withLock {
            next.header = named
            segments.append(next)
            scheduler.activated(next)
            counters.segmentsActivated += 1
            idleSegments.segmentBegan()
            counters.syncs += 2
            preparerWakes.signal()
        }
    }

    /// Hands tickets to their lanes. Called with the lock held, returns with it; lets go of it
    /// while a handler runs. One thread at a time delivers, so that lanes see tickets in order.
    private func deliver() {
        guard !isDelivering else { return }
        // At the latest the idle claim's end tells them.
        if scheduler.hasUnclaimed, options.rarePaths.takes(.ticketsToldLate) { return }
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

    // MARK: Driving by hand

    /// The next piece of work for a driver without threads.
    package func takeWork() -> LogWork? {
        monitor.withLock { scheduler.next(newIncarnation: { random.next() }) }
    }

    /// Reports a frame written durably by a driver without threads; calls the handlers.
    package func finish(_ group: Group) {
        finished(group, nanoseconds: 0)
        monitor.lock()
        deliver()
        monitor.unlock()
    }

    /// Does a piece of work at once, for a driver without threads.
    package func perform(_ work: LogWork) {
        run(work)
        monitor.lock()
        deliver()
        monitor.unlock()
    }

    /// Reports that a write failed to a driver without threads: the log has stopped.
    package func failed(_ error: FileError) {
        fail(WALError(error, effect: "The log has stopped and acknowledges nothing more"))
    }

    /// Asks for a claim of what is durable, if nothing is under way.
    package func claimIfIdle() {
        monitor.withLock {
            scheduler.claimIfIdle()
            wakeWriter()
        }
    }

    // MARK: Looking

    /// Frames that may be under way at one time.
    package var mostFramesInFlight: Int { scheduler.mostInFlight }

    /// Whether entries that cannot be read are to be had from peers, rather than end the node.
    package var repairsDamage: Bool { options.damagePolicy == .repair }

    package var statistics: WALStatistics {
        monitor.withLock {
            var now = counters
            now.frames = scheduler.framesWritten
            now.batches = scheduler.batchesWritten
            now.bodyBytes = scheduler.bodyBytesWritten
            now.rawBodyBytes = scheduler.rawBodyBytesWritten
            now.histograms = scheduler.histograms.copy()
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
