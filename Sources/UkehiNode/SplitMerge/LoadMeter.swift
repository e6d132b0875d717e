// Hot path: three additions an operation. How much is asked of a region.

/// Operations and bytes, a second.
package struct LoadRates: Hashable, Sendable {
    package var reads: Double = 0
    package var writes: Double = 0
    /// Of what was written and of what was answered.
    package var bytes: Double = 0
    package var operations: Double { reads + writes }
}

/// Counts what a region's leader does, second by second.
struct LoadMeter {
    private var reads: UInt64 = 0
    private var writes: UInt64 = 0
    private var bytes: UInt64 = 0
    /// Of the last whole second: what is compared with a threshold.
    private(set) var last = LoadRates()
    /// An average in which each second counts half as much as the next: what is shown.
    private(set) var average = LoadRates()

    @inline(__always)
    mutating func countWrite(_ size: Int) {
        writes &+= 1
        bytes &+= UInt64(truncatingIfNeeded: size)
    }

    @inline(__always)
    mutating func countRead(_ size: Int) {
        reads &+= 1
        bytes &+= UInt64(truncatingIfNeeded: size)
    }

    /// A second has passed, or so many milliseconds. Returns what was counted.
    @discardableResult
    mutating func endSecond(milliseconds: UInt64) -> (operations: UInt64, bytes: UInt64) {
        let scale = 1000 / Double(max(milliseconds, 1))
        last = LoadRates(
            reads: Double(reads) * scale, writes: Double(writes) * scale,
            bytes: Double(bytes) * scale)
        average = average.scaled(by: 0.5).adding(last.scaled(by: 0.5))
        let counted = (reads &+ writes, bytes)
        reads = 0
        writes = 0
        bytes = 0
        return counted
    }

    /// Takes out this fraction of it, from 0 to 1, for another region's meter.
    mutating func give(_ fraction: Double) -> LoadMeter {
        var given = LoadMeter()
        given.last = last.scaled(by: fraction)
        given.average = average.scaled(by: fraction)
        last = last.scaled(by: 1 - fraction)
        average = average.scaled(by: 1 - fraction)
        return given
    }
}

extension LoadRates {
    func scaled(by factor: Double) -> LoadRates {
        LoadRates(reads: reads * factor, writes: writes * factor, bytes: bytes * factor)
    }
    func adding(_ other: LoadRates) -> LoadRates {
        LoadRates(
            reads: reads + other.reads, writes: writes + other.writes, bytes: bytes + other.bytes)
    }
}
