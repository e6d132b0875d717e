// The process in which seeds run, one after another, and what it says on its standard output:
//
//   begin SEED            before a seed, so that a process that dies names its seed
//   fault NUMBER ...      the seed's schedule, for shrinking
//   event TEXT            after a failure: what happened last
//   { ... }               the seed's result

import UkehiEnvironment
import UkehiSimulation

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

enum SimulationWorker {
    /// Some hundred MiB are usual. A seed that multiplies its messages for ever ends with its process, and not
    /// with the machine's memory.
    private static let mostMemoryBytes = 4 << 30

    static func run(_ seeds: Range<UInt64>, _ settings: SimulationSettings) {
        limitMemory()
        for seed in seeds {
            printLine("begin \(seed)")
            flushOutput()
            let started = processorSeconds()
            let run = SimulationRun(
                seed: seed, minutes: settings.minutes, scenario: settings.scenario,
                onlyFaults: settings.faults.map { Set($0) }, nodes: settings.nodes,
                regions: settings.regions)
            printLine("fault " + run.faultNumbers.map(String.init).joined(separator: " "))
            flushOutput()
            let result = run.run()
            if let failure = result.failure {
                printLine("event \(result.settings)")
                for line in result.lastEvents { printLine("event \(line)") }
                printLine("event \(failure)")
            }
            printLine(json(result, settings, seconds: processorSeconds() - started).text)
            flushOutput()
        }
    }

    private static func limitMemory() {
        var limit = rlimit()
        #if canImport(Glibc)
            let resource = __rlimit_resource_t(RLIMIT_AS.rawValue)
        #else
            let resource = RLIMIT_AS
        #endif
        guard getrlimit(resource, &limit) == 0 else { return }
        limit.rlim_cur = min(limit.rlim_max, rlim_t(mostMemoryBytes))
        _ = setrlimit(resource, &limit)
    }

    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private static func json(
        _ result: SimulationResult, _ settings: SimulationSettings, seconds: Double
    ) -> JSONValue {
        .object([
            ("seed", .int(Int(clamping: result.seed))),
            ("scenario", .string(settings.scenario.rawValue)),
            ("failed", .bool(result.failure != nil)),
            ("reason", result.failure.map { .string($0.description) } ?? .null),
            ("trace_hash", .string(hexadecimal(result.traceHash))),
            ("simulated_seconds", .number(Double(result.simulatedNanoseconds) / 1e9)),
            ("faults", .int(result.faults)),
            ("events", .int(Int(clamping: result.events))),
            ("operations", .int(result.operations)),
            ("elections", .int(result.elections)),
            ("committed_entries", .int(result.committedEntries)),
            ("undecided_histories", .int(result.undecided)),
            ("refused_nodes", .int(result.refusedNodes)),
            ("member_changes", .int(result.memberChanges)), ("splits", .int(result.splits)),
            ("unasked_splits", .int(result.unaskedSplits)),
            ("wiped_nodes", .int(result.wipedNodes)),
            ("recoveries", .int(result.recoveries)),
            ("regions_with_losses", .int(result.regionsWithLosses)),
            ("mended_bodies", .int(result.mendedBodies)),
            ("snapshots_installed", .int(result.snapshotsInstalled)),
            ("session_writes", .int(result.sessionWrites)),
            ("session_copies", .int(result.sessionCopies)),
            (
                "rare_paths",
                .object(
                    result.rarePaths.filter { $0.taken > 0 }
                        .map { ($0.path.name, .int(Int(clamping: $0.taken))) })
            ),
            ("cpu_seconds", .number(seconds)),
        ])
    }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
