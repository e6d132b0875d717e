// Runs seeds in processes of their own, several at a time, and reports them.

import Foundation
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiSimulation

/// What a worker process said of one seed.
struct SeedReport: Sendable {
    var seed: UInt64
    /// The result's line as the worker printed it; nil if the process died.
    var line: String?
    /// Why it failed; nil: it did not.
    var reason: String?
    var faults: [Int] = []
    var events: [String] = []
    var simulatedSeconds = 0.0
    var faultCount = 0
    var eventCount = 0.0
    /// Rare paths of the code that were taken.
    var rarePaths: Set<String> = []
}

final class SimulationRunner: Sendable {
    private struct State {
        var next: UInt64
        var end: UInt64
        var done = 0
        var failed = 0
        var simulatedSeconds = 0.0
        var faults = 0
        var events = 0.0
        var rarePaths: Set<String> = []
        var activeJobs = 0
    }
    private let settings: SimulationSettings
    private let jobs: Int
    private let shrinks: Bool
    private let json: Bool
    private let state = Mutex(State(next: 0, end: 0))
    /// Seeds one process runs before another takes over: starting one costs some milliseconds.
    private let seedsPerProcess: UInt64 = 8
    /// Runs spent on making one failure smaller.
    private let maxShrinkRuns = 150

    init(settings: SimulationSettings, jobs: Int, shrinks: Bool, json: Bool) {
        self.settings = settings
        self.jobs = jobs > 0 ? jobs : max(1, ProcessInfo.processInfo.activeProcessorCount)
        self.shrinks = shrinks
        self.json = json
    }

    /// Returns how many failed.
    func run(_ seeds: Range<UInt64>) -> Int {
        let threads = min(jobs, seeds.count)
        state.withLock { state in
            state.next = seeds.lowerBound
            state.end = seeds.upperBound
            state.activeJobs = threads
        }
        for _ in 0..<threads { Thread.detachNewThread { self.work() } }
        let started = Date()
        var lastShown = Date()
        // A person wants to see that it goes on; a log file is not to fill with it.
        let interval: TimeInterval = isErrorWatched ? 1 : 15
        while state.withLock({ $0.activeJobs > 0 }) {
            Thread.sleep(forTimeInterval: 0.02)
            if Date().timeIntervalSince(lastShown) >= interval {
                lastShown = Date()
                showProgress(of: seeds.count, seconds: Date().timeIntervalSince(started))
            }
        }
        let end = state.withLock { $0 }
        if !json {
            printLine(
                "\(end.done) seeds, \(end.failed) failed; "
                    + summary(end, seconds: Date().timeIntervalSince(started)))
            printLine(rarePathsTaken(end.rarePaths))
        }
        flushOutput()
        return end.failed
    }

    private func rarePathsTaken(_ taken: Set<String>) -> String {
        let missed = RarePath.allCases.map(\.name).filter { !taken.contains($0) }
        let count = RarePath.allCases.count
        return "\(count - missed.count) of \(count) rare paths of the code were taken"
            + (missed.isEmpty ? "" : "; never: " + missed.joined(separator: ", "))
    }

    private func showProgress(of count: Int, seconds: Double) {
        let now = state.withLock { $0 }
        printError(
            "  \(now.done) of \(count) seeds, \(now.failed) failed; "
                + summary(now, seconds: seconds))
    }

    private func summary(_ state: State, seconds: Double) -> String {
        let hours = BenchFormat.ratio(state.simulatedSeconds / 3600)
        let rate = BenchFormat.count(state.events / max(seconds, 0.001))
        return "\(hours) simulated hours, \(state.faults) faults, \(rate) events/s"
    }

    // MARK: One job

    private func work() {
        while let seeds = take() {
            var from = seeds.lowerBound
            while from < seeds.upperBound {
                // A process that dies takes the seeds after it along: they run in the next one.
                let before = from
                WorkerProcess.run(from..<seeds.upperBound, settings) { report in
                    from = report.seed + 1
                    finish(report)
                }
                invariant(from > before, "a worker process reports at least one seed")
            }
        }
        state.withLock { $0.activeJobs -= 1 }
    }

    private func take() -> Range<UInt64>? {
        state.withLock { state in
            guard state.next < state.end else { return nil }
            let from = state.next
            state.next = min(state.end, from + seedsPerProcess)
            return from..<state.next
        }
    }

    private func finish(_ report: SeedReport) {
        var kept = settings
        if report.reason != nil, shrinks, settings.faults == nil, !report.faults.isEmpty {
            kept.faults = Shrinker.shrink(report.faults, maxRuns: maxShrinkRuns) { faults in
                var fewer = settings
                fewer.faults = faults.sorted()
                var isFailing = false
                WorkerProcess.run(report.seed..<report.seed + 1, fewer) { again in
                    isFailing = again.reason != nil
                }
                return isFailing
            }
        }
        state.withLock { state in
            state.done += 1
            state.simulatedSeconds += report.simulatedSeconds
            state.faults += report.faultCount
            state.events += report.eventCount
            state.rarePaths.formUnion(report.rarePaths)
            if report.reason != nil { state.failed += 1 }
            // Under the lock, so that reports of two jobs do not mix.
            show(report, kept)
        }
    }

    private func show(_ report: SeedReport, _ kept: SimulationSettings) {
        let command =
            "ukehi simulate --seed \(report.seed) "
            + kept.arguments.joined(separator: " ")
        if json {
            if let line = report.line, report.reason == nil {
                printLine(line)
            } else if let line = report.line {
                printLine(line.dropLast() + ",\"reproduce\":\(JSONValue.string(command).text)}")
            } else {
                printLine(
                    JSONValue.object([
                        ("seed", .int(Int(clamping: report.seed))),
                        ("scenario", .string(settings.scenario.rawValue)),
                        ("failed", .bool(true)), ("reason", .string(report.reason ?? "")),
                        ("trace_hash", .null), ("simulated_seconds", .null),
                        ("faults", .null), ("events", .null), ("cpu_seconds", .null),
                        ("reproduce", .string(command)),
                    ]).text)
            }
            return flushOutput()
        }
        guard let reason = report.reason else { return }
        printLine("seed \(report.seed) failed \(reason)")
        for event in report.events { printLine("    \(event)") }
        printLine("  again: \(command)")
        flushOutput()
    }
}

/// A process of this same program that runs some seeds.
enum WorkerProcess {
    /// Runs until all seeds are done or the process dies, and reports each seed when it ends; the
    /// last report is of the seed that killed the process, then.
    static func run(
        _ seeds: Range<UInt64>, _ settings: SimulationSettings, _ report: (SeedReport) -> Void
    ) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments =
            ["simulate", "--worker", "--seed", "\(seeds.lowerBound)", "--seeds", "\(seeds.count)"]
            + settings.arguments
        var environment = ProcessInfo.processInfo.environment
        // A trap is told in one line, not in a register dump that takes seconds.
        environment["SWIFT_BACKTRACE"] = "enable=no"
        process.environment = environment
        let output = Pipe()
        let errors = Pipe()
        process.standardOutput = output
        process.standardError = errors
        do {
            try process.run()
        } catch {
            return report(
                SeedReport(
                    seed: seeds.lowerBound, line: nil,
                    reason: "because no worker process could be started: \(error)"))
        }
        var rest = Data()
        var current: SeedReport?
        while case let data = output.fileHandleForReading.availableData, !data.isEmpty {
            rest += data
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                read(String(decoding: rest[rest.startIndex..<end], as: UTF8.self), &current)
                rest = rest[rest.index(after: end)...]
                if let done = current, done.line != nil {
                    report(done)
                    current = nil
                }
            }
        }
        // The pipe holds what a process says before it dies.
        let complaint = String(
            decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        if var died = current {
            let said = complaint.split(separator: "\n").last.map { ": \($0)" } ?? ""
            died.reason = "because its process ended with \(process.terminationStatus)\(said)"
            report(died)
        }
    }

    private static func read(_ line: String, _ current: inout SeedReport?) {
        if line.hasPrefix("begin "), let seed = UInt64(line.dropFirst(6)) {
            current = SeedReport(seed: seed, line: nil, reason: nil)
            return
        }
        guard var report = current else { return }
        if line.hasPrefix("fault ") {
            report.faults = line.dropFirst(6).split(separator: " ").compactMap { Int($0) }
        } else if line.hasPrefix("event ") {
            report.events.append(String(line.dropFirst(6)))
        } else if line.hasPrefix("{"), let data = line.data(using: .utf8),
            let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
        {
            report.line = line
            if object["failed"] as? Bool ?? true {
                report.reason = object["reason"] as? String ?? "without a reason"
            }
            report.simulatedSeconds = object["simulated_seconds"] as? Double ?? 0
            report.faultCount = object["faults"] as? Int ?? 0
            report.eventCount = Double(object["events"] as? Int ?? 0)
            report.rarePaths = Set((object["rare_paths"] as? [String: Any] ?? [:]).keys)
        }
        current = report
    }
}
