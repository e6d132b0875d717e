// The system's clocks and randomness.

public import UkehiEnvironment

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// CLOCK_BOOTTIME, which goes on during suspend, and the wall clock.
public final class SystemClock: NodeClock {
    public init() {}

    public func now() -> MonotonicTime {
        MonotonicTime(nanoseconds: SystemClock.read(CLOCK_BOOTTIME))
    }

    public func wallNanoseconds() -> UInt64 { SystemClock.read(CLOCK_REALTIME) }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

/// The system's cryptographic generator.
public final class SystemRandomSource: RandomSource {
    public init() {}

    public func next() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}
