// `ukehi simulate --exhaustive`: every state of a small world of bare consensus cores.

import ArgumentParser
import UkehiBase
import UkehiSimulation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How small the world is; the defaults complete in minutes.
struct ExhaustiveOptions: ParsableArguments {
    @Flag(
        help: "Visit every state of three bare consensus cores within the bounds that follow.")
    var exhaustive = false

    @Option(help: "Exhaustive: elections that are started.")
    var elections = 2

    @Option(help: "Exhaustive: commands that are proposed.")
    var commands = 1

    @Option(help: "Exhaustive: crashes, with the loss of what was not persisted.")
    var crashes = 2

    @Option(
        help: """
            Exhaustive: messages lost or delivered twice, together; without it any number of them.
            """)
    var losses: Int?

    @Option(help: "Exhaustive: rounds of heartbeats.")
    var heartbeats = 0

    @Flag(help: "Exhaustive: candidates ask first whether they could win.")
    var preVote = false

    @Flag(help: "Exhaustive: writes are done at once, so that a crash loses memory only.")
    var instantDisk = false

    @Flag(help: "Exhaustive: what a peer has asked its disk for is done all at once, or lost.")
    var writesTogether = false

    @Flag(help: "Exhaustive: one entry an append.")
    var singleEntryAppends = false

    @Flag(help: "Exhaustive: keep messages that can never matter again.")
    var keepStaleMessages = false

    @Option(help: "Exhaustive: give up after this many states.")
    var maxStates = Int(UInt32.max)

    var bounds: ExplorationBounds {
        var bounds = ExplorationBounds()
        bounds.elections = elections
        bounds.commands = commands
        bounds.crashes = crashes
        bounds.disturbances = losses
        bounds.heartbeats = heartbeats
        bounds.preVote = preVote
        bounds.instantDisk = instantDisk
        bounds.writesTogether = writesTogether
        bounds.singleEntryAppends = singleEntryAppends
        bounds.keepsStaleMessages = keepStaleMessages
        bounds.maxStates = maxStates
        return bounds
    }

    func validate() throws {
        if let fault = bounds.fault { throw ValidationError(fault) }
    }
}

/// One exploration, shown as it goes.
struct ExhaustiveRun {
    let bounds: ExplorationBounds
    let json: Bool

    /// Whether everything was visited and every promise kept.
    func run() -> Bool {
        let explorer = Explorer(bounds)
        TrapReport.watch(explorer, json: json)
        let clock = ContinuousClock()
        let start = clock.now
        var lastShown = start
        var lastStates = 0
        let result = explorer.run { progress in
            let now = clock.now
            let elapsed = Self.seconds(now - lastShown)
            guard elapsed >= 2 else { return }
            let rate = Double(progress.states - lastStates) / elapsed
            lastShown = now
            lastStates = progress.states
            printError(
                "  \(progress.states) states, depth \(progress.depth), \(progress.waiting) waiting, "
                    + "\(BenchFormat.count(rate)) states/s")
        }
        show(result, seconds: Self.seconds(clock.now - start))
        flushOutput()
        return result.isComplete
    }

    private func show(_ result: ExplorationResult, seconds: Double) {
        let progress = result.progress
        if json {
            return printLine(
                JSONValue.object([
                    ("states", .int(progress.states)), ("actions", .int(progress.actions)),
                    ("depth", .int(progress.depth)), ("peer_states", .int(progress.peerStates)),
                    ("core_steps", .int(progress.coreSteps)),
                    ("complete", .bool(result.isComplete)), ("seconds", .number(seconds)),
                    ("broken", result.broken.map { .string("\($0)") } ?? .null),
                    ("trace", .array(result.trace.map { .string($0) })),
                ]).text)
        }
        printLine(
            "\(progress.states) distinct states, \(progress.actions) actions, depth "
                + "\(progress.depth); \(progress.peerStates) states of single peers, the core given "
                + "\(progress.coreSteps) inputs; \(BenchFormat.ratio(seconds)) s")
        if let broken = result.broken {
            printLine("BROKEN after \(result.trace.count) actions, and no fewer: \(broken)")
            for line in result.trace { printLine("  \(line)") }
        } else if result.isComplete {
            printLine("complete: no promise was broken")
        } else {
            printLine("not complete: stopped at --max-states")
        }
    }

    private static func seconds(_ duration: Duration) -> Double { duration / .seconds(1) }
}

/// A core that stops the process on a broken invariant leaves the actions that led there.
private enum TrapReport {
    /// Safety: set once, before anything runs, and read only by the one thread that explores.
    nonisolated(unsafe) private static var explorer: Explorer?
    nonisolated(unsafe) private static var json = false

    static func watch(_ explorer: Explorer, json: Bool) {
        self.explorer = explorer
        self.json = json
        // Raised by the trap instruction itself, on the thread and at the place where it stands, so
        // that no lock of the allocator is held: printing works.
        for number in [SIGILL, SIGTRAP] {
            signal(number) { _ in
                TrapReport.show()
                _exit(ExitStatus.failure)
            }
        }
    }

    private static func show() {
        let trace = explorer?.currentTrace ?? []
        if json {
            printLine(
                JSONValue.object([
                    ("complete", .bool(false)), ("broken", .string("the core stopped the process")),
                    ("trace", .array(trace.map { .string($0) })),
                ]).text)
        } else {
            printLine("BROKEN after \(trace.count) actions: the core stopped the process")
            for line in trace { printLine("  \(line)") }
        }
        flushOutput()
    }
}
