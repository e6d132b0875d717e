// Load that comes at a rate, whatever became of what came before: an open loop.
//
// A closed loop offers less when answers are late, so that its latencies are those of a cluster that is
// as busy as it can be. How long an operation takes at a given load only an open one tells: what comes
// while no client is free waits, and its latency counts from when it came.

import ArgumentParser

/// How much load a run offers.
enum OfferedRate: Equatable, Sendable {
    /// Operations a second.
    case operations(Double)
    /// Of what the same clients reach in a closed loop, measured first.
    case share(Double)

    /// From `20000` or `50%`; nil: neither.
    init?(parsing text: String) {
        if text.hasSuffix("%") {
            guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else {
                return nil
            }
            self = .share(percent / 100)
        } else {
            guard let rate = Double(text), rate > 0, rate <= 1e9 else { return nil }
            self = .operations(rate)
        }
    }

    /// Of an option; nil: it was not given.
    static func parse(_ option: String?) throws -> OfferedRate? {
        guard let option else { return nil }
        guard let rate = OfferedRate(parsing: option) else {
            throw ValidationError(
                "Nothing was started: --rate is operations a second, or 1% to 100% of the peak.")
        }
        return rate
    }

    var text: String {
        switch self {
        case .operations(let rate): BenchFormat.count(rate)
        case .share(let share): "\(BenchFormat.count(share * 100))%"
        }
    }
}

/// When operations come: evenly, on the beats of a clock of a millisecond, since nobody looks more often.
struct ArrivalSchedule {
    private static let beatNanoseconds: UInt64 = 1_000_000
    private let nanosecondsEach: Double
    private let start: UInt64
    private var taken = 0

    init(operationsPerSecond: Double, from start: UInt64) {
        nanosecondsEach = 1e9 / operationsPerSecond
        self.start = start
    }

    /// How many have come by now, and were not taken.
    func due(_ now: UInt64) -> Int {
        guard now > start else { return 0 }
        let beats = (now - start) / Self.beatNanoseconds * Self.beatNanoseconds
        return max(0, Int(Double(beats) / nanosecondsEach) - taken)
    }

    /// Takes the oldest one that has come; when it came. Nil: there is none.
    mutating func take(_ now: UInt64) -> UInt64? {
        guard due(now) > 0 else { return nil }
        taken += 1
        let exact = UInt64(Double(taken) * nanosecondsEach)
        let beats = (exact + Self.beatNanoseconds - 1) / Self.beatNanoseconds
        return min(start + beats * Self.beatNanoseconds, now)
    }
}
