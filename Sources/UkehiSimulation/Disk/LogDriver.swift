// The threads of a write-ahead log, as events: several frames in flight, which end in any order.

import UkehiEnvironment
import UkehiWAL

#if BugBank
    import UkehiBase
#endif

/// How a node's disk behaves now.
struct DiskBehaviour {
    /// One durable write, nanoseconds.
    var latency: ClosedRange<UInt64> = 60_000...400_000
    /// Multiplies the latency: a slow disk.
    var slowness: UInt64 = 1
    /// One in so many takes ``lateness`` times as long as others do, which overtake it; 0: none.
    var lateOneIn: Int = 0
    static let lateness: UInt64 = 16
    /// Nothing completes before this moment: a stalled disk.
    var stalledUntil: UInt64 = 0
}

/// Writes a log's frames to a simulated disk.
final class LogDriver {
    private let world: World
    private let process: Process
    private let log: WriteAheadLog
    private var random: SeededRandom
    private var isPreparing = false
    private var isIdleCheckDue = false
    private var isScrubbing = false
    private let idleNanoseconds: UInt64
    var behaviour: () -> DiskBehaviour
    private(set) var framesInFlight = 0

    init(
        world: World, process: Process, log: WriteAheadLog, idleNanoseconds: UInt64,
        random: SeededRandom, behaviour: @escaping () -> DiskBehaviour
    ) {
        self.world = world
        self.process = process
        self.log = log
        self.idleNanoseconds = idleNanoseconds
        self.random = random
        self.behaviour = behaviour
    }

    /// Starts whatever there is to do. Called after everything that may have given the log work.
    func poke() {
        while let work = log.takeWork() { start(work) }
        prepareSoon()
        claimLater()
        if !isScrubbing { scrub() }
    }

    private func latency() -> UInt64 {
        let disk = behaviour()
        let ordinary = UInt64.random(in: disk.latency, using: &random)
        var write = ordinary * disk.slowness
        // Not both: what is begun in a slow moment must not outlive the calm after it.
        if disk.lateOneIn > 0, random.oneIn(disk.lateOneIn) {
            write = max(write, ordinary * DiskBehaviour.lateness)
        }
        return max(disk.stalledUntil, world.now) - world.now + write
    }

    private func start(_ work: LogWork) {
        guard case .frame(let group) = work, let segment = group.segment,
            let file = segment.file as? SimulatedFile
        else {
            // A new segment: its header and its name, one after the other.
            world.schedule(after: latency(), of: process) { [self] in
                log.perform(work)
                poke()
            }
            return
        }
        framesInFlight += 1
        let submitted: SubmittedWrite
        do throws(FileError) {
            submitted = try file.submit(group.fill(), at: group.header.offset)
        } catch {
            return log.failed(error)
        }
        let delay = latency()
        world.trace.mix(group.header.lsn)
        // The device finishes whatever becomes of the process; the process learns of it if it lives. One
        // that is killed between writing and syncing leaves its bytes in the page cache.
        let life = process.life
        let endsInCache = random.oneIn(2)
        world.schedule(after: delay) { [self] in
            if endsInCache, process.life != life { return }
            do throws(FileError) {
                #if BugBank
                    let isSynced = !PlantedBug.frameNotSynced.isPlanted
                #else
                    let isSynced = true
                #endif
                if isSynced { try file.complete(submitted) }
            } catch {
                guard process.life == life else { return }
                return world.schedule(after: 0, of: process) { [self] in log.failed(error) }
            }
            guard process.life == life else { return }
            world.schedule(after: 0, of: process) { [self] in
                framesInFlight -= 1
                log.finish(group)
                poke()
            }
        }
    }

    private func prepareSoon() {
        guard !isPreparing else { return }
        isPreparing = true
        world.schedule(after: latency(), of: process) { [self] in
            isPreparing = false
            if log.prepareStep() { poke() } else { prepareLater() }
        }
    }

    /// Nothing to prepare, or no room for it: looks again after a while.
    private func prepareLater() {
        isPreparing = true
        world.schedule(after: 50_000_000, of: process) { [self] in
            isPreparing = false
            poke()
        }
    }

    /// Checks sealed segments, at the log's own pace.
    private func scrub() {
        isScrubbing = true
        guard let rest = log.scrubStep() else { return }
        // Also between rounds: it may be that the next one begins early.
        world.schedule(after: min(max(rest, 1_000_000), 500_000_000), of: process) { [self] in
            scrub()
        }
    }

    /// Claims what is durable when the log has rested.
    private func claimLater() {
        guard !isIdleCheckDue else { return }
        isIdleCheckDue = true
        let frames = log.statistics.frames
        world.schedule(after: idleNanoseconds, of: process) { [self] in
            isIdleCheckDue = false
            guard log.statistics.frames == frames else { return claimLater() }
            log.claimIfIdle()
            while let work = log.takeWork() { start(work) }
        }
    }
}
