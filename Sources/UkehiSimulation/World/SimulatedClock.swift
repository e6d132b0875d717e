import UkehiEnvironment

/// A node's clocks: the monotonic one runs a little fast or slow, the wall clock also jumps.
final class SimulatedClock: NodeClock, @unchecked Sendable {
    // Safety: a simulation uses one thread.
    private let world: World
    /// Parts per million by which the monotonic clock runs fast; negative: slow.
    var driftPerMillion: Int64 = 0
    /// Added to the wall clock, nanoseconds.
    var wallOffset: Int64 = 0
    /// Drift counts from here, so that a change of rate makes no jump.
    private var origin: (world: UInt64, local: UInt64)

    /// 2026-01-01, so that logged times look like times.
    static let wallStart: UInt64 = 1_767_225_600_000_000_000

    init(_ world: World) {
        self.world = world
        origin = (world.now, world.now &+ 1_000_000_000)
    }

    private var local: UInt64 {
        let elapsed = world.now - origin.world
        return origin.local + scaled(elapsed)
    }

    /// How much this clock advances while the world's does by `nanoseconds`.
    private func scaled(_ nanoseconds: UInt64) -> UInt64 {
        let shift = Int64(nanoseconds / 1000) * driftPerMillion / 1000
        return UInt64(max(0, Int64(nanoseconds) + shift))
    }

    /// The world's time in which this clock advances by `nanoseconds`.
    func worldNanoseconds(of nanoseconds: UInt64) -> UInt64 {
        let shift = Int64(nanoseconds / 1000) * driftPerMillion / 1000
        return UInt64(max(1, Int64(nanoseconds) - shift))
    }

    func setDrift(perMillion drift: Int64) {
        origin = (world.now, local)
        driftPerMillion = drift
    }

    /// The monotonic clock goes ahead, as after the suspend of a machine.
    func jump(aheadBy nanoseconds: UInt64) { origin = (world.now, local + nanoseconds) }

    func now() -> MonotonicTime { MonotonicTime(nanoseconds: local) }
    func wallNanoseconds() -> UInt64 {
        UInt64(max(0, Int64(Self.wallStart &+ local) &+ wallOffset))
    }
}
