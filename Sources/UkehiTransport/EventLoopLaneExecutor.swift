// Runs a lane on an event loop, where its connections live too: sending and receiving need no hop.

package import NIOCore
import Synchronization
package import UkehiNode

/// A lane's thread.
package final class EventLoopLaneExecutor: LaneExecutor {
    private let loop: any EventLoop
    private let ticks = Mutex<[RepeatedTask]>([])
    private let isStopped = Atomic(false)

    package init(_ loop: any EventLoop) { self.loop = loop }

    package var inLane: Bool { loop.inEventLoop }

    package func wake(_ lane: Lane) {
        guard !isStopped.load(ordering: .acquiring) else { return }
        // From the loop itself this only queues; from elsewhere it also wakes the loop.
        loop.execute { [self] in
            if !isStopped.load(ordering: .acquiring) { lane.runPass() }
        }
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
