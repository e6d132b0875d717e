// Runs a lane on an event loop, where its connections live too: sending and receiving need no hop.

package import NIOCore
import Synchronization
package import UkehiNode

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A lane's thread.
package final class EventLoopLaneExecutor: LaneExecutor {
    private let loop: any EventLoop
    private let ticks = Mutex<[RepeatedTask]>([])
    private let isStopped = Atomic(false)
    /// Whether the loop watches already; touched on the loop only.
    private let isWatching = Atomic(false)

    /// How long a loop that waits for one small write looks for its end before it sleeps. Waking a
    /// sleeping thread costs tens of microseconds, as much as a good disk's write; a lone client's
    /// write crosses such a hand-over on every node. Under load there is always other work.
    private static let watch = TimeAmount.microseconds(400)

    package init(_ loop: any EventLoop) { self.loop = loop }

    package var inLane: Bool { loop.inEventLoop }

    package func wake(_ lane: Lane) {
        guard !isStopped.load(ordering: .acquiring) else { return }
        // From the loop itself this only queues; from elsewhere it also wakes the loop.
        loop.execute { [self] in
            guard !isStopped.load(ordering: .acquiring) else { return }
            lane.runPass()
            if lane.awaitsSmallWrite, !isWatching.exchange(true, ordering: .relaxed) {
                watch(lane, until: .now() + Self.watch)
            }
        }
    }

    /// Lets the loop go round without sleeping while the lane's small write is under way; other
    /// threads that can run go first.
    private func watch(_ lane: Lane, until end: NIODeadline) {
        guard lane.awaitsSmallWrite, NIODeadline.now() < end else {
            return isWatching.store(false, ordering: .relaxed)
        }
        sched_yield()
        loop.execute { [self] in watch(lane, until: end) }
    }

    package func startTicks(everyNanoseconds interval: UInt64, lane: Lane) {
        let step = TimeAmount.nanoseconds(Int64(clamping: interval))
        let task = loop.scheduleRepeatedTask(initialDelay: step, delay: step) { [weak self] task in
            guard let self, !self.isStopped.load(ordering: .acquiring) else {
                task.cancel()
                return
            }
            lane.tick()
        }
        ticks.withLock { $0.append(task) }
    }

    /// No pass or tick begins after this; one that runs goes on to its end.
    package func stop() {
        isStopped.store(true, ordering: .releasing)
        for task in ticks.withLock({ $0 }) { task.cancel() }
    }
}
