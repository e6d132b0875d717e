// What threads are in production, as events: lanes that wake after a moment, workers that do one
// thing after another.

import UkehiEnvironment
import UkehiNode

/// A lane's event loop.
final class SimulatedExecutor: LaneExecutor, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let world: World
    private let process: Process
    private let clock: SimulatedClock
    private var random: SeededRandom
    private let latency: ClosedRange<UInt64>
    private let slowness: () -> UInt64
    private(set) var lane: Lane?
    private var isStopped = false
    private(set) var inLane = false
    /// Told after every pass.
    var afterPass: (Lane) -> Void = { _ in }

    init(
        world: World, process: Process, clock: SimulatedClock, latency: ClosedRange<UInt64>,
        slowness: @escaping () -> UInt64 = { 1 }, random: SeededRandom
    ) {
        self.slowness = slowness
        self.world = world
        self.process = process
        self.clock = clock
        self.latency = latency
        self.random = random
    }

    func wake(_ lane: Lane) {
        let delay = UInt64.random(in: latency, using: &random) * slowness()
        world.schedule(after: delay, of: process) { [self] in
            run(lane) { lane.runPass() }
        }
    }

    func startTicks(everyNanoseconds interval: UInt64, lane: Lane) {
        self.lane = lane
        tick(interval, lane)
    }

    private func tick(_ interval: UInt64, _ lane: Lane) {
        world.schedule(after: clock.worldNanoseconds(of: interval), of: process) { [self] in
            guard !isStopped else { return }
            run(lane) { lane.tick() }
            tick(interval, lane)
        }
    }

    private func run(_ lane: Lane, _ body: () -> Void) {
        guard !isStopped else { return }
        inLane = true
        body()
        inLane = false
        afterPass(lane)
    }

    func stop() {
        isStopped = true
        lane = nil
        afterPass = { _ in }
    }
}

/// A thread that does what it is given, in order.
final class SimulatedWorker: Worker, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let world: World
    private let process: Process
    private var random: SeededRandom
    private let latency: ClosedRange<UInt64>
    private let slowness: () -> UInt64
    private let stalledUntil: () -> UInt64
    /// When the work handed over so far is done.
    private var freeAt: UInt64 = 0
    /// In nanoseconds.
    private static let longestSlowed: UInt64 = 2_000_000_000

    init(
        world: World, process: Process, latency: ClosedRange<UInt64>,
        slowness: @escaping () -> UInt64 = { 1 },
        stalledUntil: @escaping () -> UInt64 = { 0 }, random: SeededRandom
    ) {
        self.stalledUntil = stalledUntil
        self.slowness = slowness
        self.world = world
        self.process = process
        self.latency = latency
        self.random = random
    }

    func run(_ work: @escaping @Sendable () -> Void) {
        let ordinary = UInt64.random(in: latency, using: &random)
        // Work that is begun in a slow moment does not stay slow for long after it.
        let slowed = min(ordinary * slowness(), Self.longestSlowed)
        let free = min(stalledUntil(), world.now + Self.longestSlowed)
        freeAt = max(freeAt, free, world.now) + max(ordinary, slowed)
        world.schedule(after: freeAt - world.now, of: process, work)
    }

    func stop() {}
}
