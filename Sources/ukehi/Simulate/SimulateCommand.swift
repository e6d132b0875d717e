// `ukehi simulate`: whole clusters under faults, from seeds.

import ArgumentParser
import UkehiSimulation

#if BugBank
    import UkehiBase
#endif

struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Run whole clusters under faults, in simulated time, from seeds.",
        discussion: """
              ukehi simulate --seeds 300                a hundred kinds of trouble, a seed each
              ukehi simulate --seed 81 --minutes 1      one seed again, exactly as it was
              ukehi simulate --scenario disks --seeds 50 --json
              ukehi simulate --exhaustive --elections 3 --commands 1

            Each seed draws a cluster (nodes, regions, disks, links, clients) and its faults, runs
            it on the shipped code, then heals everything and checks: Raft's promises at every step,
            histories for linearizability, replicas against each other, and that all of it comes
            back. The exit code is 1 if any seed failed; a failure prints the command that repeats
            it with as few faults as it takes, and what happened last.

            With --exhaustive there are no seeds: three bare consensus cores go through every order of
            elections, commands, messages, writes and crashes within bounds, and Raft's promises are
            checked in each state. A broken one ends it with exit code 1 and the shortest sequence of
            actions that leads there.

            Scenarios: \(Scenario.allCases.map(\.rawValue).joined(separator: ", ")).
            """)

    @Option(help: "The first seed; without it a fresh one is drawn and printed.")
    var seed: UInt64?

    @Option(help: "How many seeds, one after another.")
    var seeds: UInt64 = 1

    @Option(help: "Simulated minutes with faults, for each seed.")
    var minutes: Double = 1

    @Option(help: "Which faults may occur.")
    var scenario: String = Scenario.swarm.rawValue

    @Option(help: "So many nodes; without it as each seed draws: 3, 5 or 7.")
    var nodes: Int?

    @Option(help: "So many regions at the start; without it as each seed draws: 1 to 16.")
    var regions: Int?

    @Option(help: "Seeds that run at the same time; 0: one for each core.")
    var jobs: Int = 0

    @Option(help: "Leave out all faults but these numbers, as a failure prints them.")
    var onlyFaults: String?

    @Flag(help: "Print a failing seed as it is, without looking for fewer faults.")
    var noShrink = false

    @Flag(help: "One JSON object per seed.")
    var json = false

    /// Runs seeds in this process and reports each on a line; the command starts itself like this, so
    /// that a seed that ends the process is a failed seed.
    @Flag(help: .hidden)
    var worker = false

    #if BugBank
        @Option(help: "Run with this bug of the bank.")
        var plant: String?
    #endif

    @OptionGroup var small: ExhaustiveOptions

    private var chosen: Scenario? { Scenario(rawValue: scenario) }

    func validate() throws {
        guard chosen != nil else {
            throw ValidationError(
                "there is no scenario \(scenario); choose one of "
                    + Scenario.allCases.map(\.rawValue).joined(separator: ", "))
        }
        guard seeds >= 1, seeds <= 10_000_000 else {
            throw ValidationError("--seeds must be 1 to 10000000")
        }
        guard (seed ?? 0).addingReportingOverflow(seeds).overflow == false else {
            throw ValidationError("--seed and --seeds together are too large")
        }
        guard minutes > 0, minutes <= 10_000 else {
            throw ValidationError("--minutes must be over 0 and at most 10000")
        }
        guard (1...15).contains(nodes ?? 3) else {
            throw ValidationError("--nodes must be 1 to 15")
        }
        guard (1...1000).contains(regions ?? 1) else {
            throw ValidationError("--regions must be 1 to 1000")
        }
        guard (0...256).contains(jobs) else { throw ValidationError("--jobs must be 0 to 256") }
        if let onlyFaults, parse(onlyFaults) == nil {
            throw ValidationError("--only-faults takes numbers, as 3,17,42, or none")
        }
    }

    private func parse(_ list: String) -> [Int]? {
        if list == "none" { return [] }
        let numbers = list.split(separator: ",").map { Int($0) }
        return numbers.contains(nil) || numbers.isEmpty ? nil : numbers.compactMap { $0 }
    }

    func run() throws {
        let first = seed ?? UInt64.random(in: 1...1_000_000_000)
        var settings = SimulationSettings(minutes: minutes, scenario: chosen ?? .swarm)
        settings.faults = onlyFaults.flatMap(parse)
        settings.nodes = nodes
        settings.regions = regions
        #if BugBank
            settings.plant = plant
            if let plant { try PlantedBug.plant(plant) }
        #endif
        if small.exhaustive {
            if !ExhaustiveRun(bounds: small.bounds, json: json).run() {
                throw ExitCode(ExitStatus.failure)
            }
            return
        }
        if worker { return SimulationWorker.run(first..<first + seeds, settings) }
        let runner = SimulationRunner(
            settings: settings, jobs: jobs, shrinks: !noShrink, json: json)
        if !json, seed == nil { printLine("first seed: \(first)") }
        let failed = runner.run(first..<first + seeds)
        if failed > 0 { throw ExitCode(ExitStatus.failure) }
    }
}

/// What is the same for all seeds of one command.
struct SimulationSettings: Sendable {
    var minutes: Double
    var scenario: Scenario
    /// Only these faults; nil: all.
    var faults: [Int]?
    /// Instead of what each seed draws.
    var nodes: Int?
    var regions: Int?
    #if BugBank
        var plant: String?
    #endif

    /// The options that repeat a seed.
    var arguments: [String] {
        var arguments = [
            "--minutes", minutes == minutes.rounded() ? "\(Int(minutes))" : "\(minutes)",
        ]
        #if BugBank
            if let plant { arguments += ["--plant", plant] }
        #endif
        if let nodes { arguments += ["--nodes", "\(nodes)"] }
        if let regions { arguments += ["--regions", "\(regions)"] }
        if scenario != .swarm { arguments += ["--scenario", scenario.rawValue] }
        if let faults {
            arguments += [
                "--only-faults",
                faults.isEmpty ? "none" : faults.map(String.init).joined(separator: ","),
            ]
        }
        return arguments
    }
}
