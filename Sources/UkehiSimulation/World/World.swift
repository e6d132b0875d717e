// Virtual time: a queue of what will happen, in order, and nothing else that decides.
//
// Everything of a simulated cluster happens on one thread, in one order: by time, then by the order
// of scheduling. No event reads a real clock, a hash order or a thread, so two runs from one seed do
// the same thing, byte for byte (the trace hash says so).

/// Who an event belongs to: a process that may crash or be paused in the meantime.
final class Process: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    let name: String
    /// Raised by every end of the process; events of an earlier life never happen.
    private(set) var life: UInt32 = 0
    /// Events that came due while the process was paused, in order.
    fileprivate var deferred: [() -> Void] = []
    fileprivate(set) var isPaused = false

    init(name: String) { self.name = name }

    func end() {
        life += 1
        deferred = []
        isPaused = false
    }
}

/// The queue of events, and the only clock that moves.
final class World: @unchecked Sendable {
    // Safety: a simulation uses one thread.
    /// Nanoseconds since the simulation began.
    private(set) var now: UInt64 = 0
    private(set) var eventsRun: UInt64 = 0
    private var events = EventQueue()
    /// What happened, as one number.
    var trace = TraceHash()
    /// Set by a checker: nothing happens any more.
    private(set) var failure: SimulationFailure?

    /// Runs `body` after a delay; not at all if the process has ended by then, later if it is paused.
    func schedule(
        after delay: UInt64, of process: Process? = nil, _ body: @escaping () -> Void
    ) {
        events.push(
            Event(process: process, life: process?.life ?? 0, body: body), at: now + delay)
    }

    /// Runs events until `time`, or until something is found to be wrong.
    func run(until time: UInt64) {
        while failure == nil, let next = events.nextTime, next <= time {
            now = next
            dispatch(events.pop())
        }
        if failure == nil { now = max(now, time) }
    }

    private func dispatch(_ event: Event) {
        if let process = event.process {
            guard process.life == event.life else { return }
            if process.isPaused {
                process.deferred.append(event.body)
                return
            }
        }
        eventsRun += 1
        trace.mix(now)
        event.body()
    }

    /// Forgets what would have happened: events hold what they are about.
    func end() { events = EventQueue() }

    func pause(_ process: Process) { process.isPaused = true }

    /// Lets a paused process go on: what came due meanwhile happens now, in order.
    func resume(_ process: Process) {
        guard process.isPaused else { return }
        process.isPaused = false
        let bodies = process.deferred
        process.deferred = []
        for body in bodies { schedule(after: 0, of: process, body) }
    }

    /// Ends the simulation: an invariant of the cluster does not hold.
    func fail(_ reason: String, region: UInt64? = nil) {
        guard failure == nil else { return }
        failure = SimulationFailure(reason: reason, nanoseconds: now, region: region)
    }
}

/// What was found to be wrong, and when.
public struct SimulationFailure: Error, Hashable, Sendable, CustomStringConvertible {
    public var reason: String
    /// Simulated time.
    public var nanoseconds: UInt64
    /// The region concerned, if it is one.
    public var region: UInt64?

    public var description: String {
        "at \(nanoseconds / 1_000_000) ms: \(reason)"
    }
}

/// A running 64-bit digest of everything that happened; the same in every build and process.
struct TraceHash {
    private(set) var value: UInt64 = 0x6a09_e667_f3bc_c908

    mutating func mix(_ word: UInt64) {
        value = (value ^ word) &* 0x9e37_79b9_7f4a_7c15
        value ^= value >> 32
    }
}
