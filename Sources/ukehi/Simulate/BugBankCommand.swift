// `ukehi bug-bank`: plants each known bug and runs seeds until the simulator notices. Only in builds
// with the trait `BugBank`.

#if BugBank

    import ArgumentParser
    import UkehiBase
    import UkehiSimulation

    #if canImport(Glibc)
        import Glibc
    #elseif canImport(Musl)
        import Musl
    #endif

    struct BugBankCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "bug-bank",
            abstract: "Plant known bugs, one at a time, and see whether they are found.",
            discussion: """
                  ukehi bug-bank                            every bug, ten CPU minutes each at most
                  ukehi bug-bank --budget 60 --json         one object per bug
                  ukehi bug-bank --only votesTwice          one of them

                Seeds run from the first one on until one fails. The exit code is 1 if a bug was not
                found within its budget. `ukehi simulate --plant NAME --seed N` shows a failure.
                What takes a schedule too rare for seeds is hunted in an exhausted small world instead,
                as by `ukehi simulate --exhaustive --plant NAME`.
                """)

        @Option(help: "The first seed.")
        var seed: UInt64 = 1

        @Option(help: "CPU seconds to spend on each bug.")
        var budget: Double = 600

        @Option(help: "Only these bugs, by name, separated by commas.")
        var only: String?

        @Option(help: "Simulated minutes with faults, for each seed.")
        var minutes: Double = 1

        @Flag(help: "One JSON object per bug.")
        var json = false

        func validate() throws {
            guard budget > 0 else { throw ValidationError("--budget must be over 0") }
            guard minutes > 0 else { throw ValidationError("--minutes must be over 0") }
            for name in only?.split(separator: ",") ?? [] { _ = try PlantedBug.named(String(name)) }
        }

        func run() throws {
            let names = only?.split(separator: ",").map(String.init)
            let bugs = try names?.map(PlantedBug.named) ?? PlantedBug.allCases
            var seconds: [Double] = []
            for bug in bugs {
                let found = hunt(bug)
                if found.reason != nil { seconds.append(found.seconds) }
                show(bug, found)
            }
            seconds.sort()
            if !json, let worst = seconds.last {
                printLine(
                    "\(seconds.count) of \(bugs.count) found; CPU seconds: median "
                        + "\(BenchFormat.ratio(seconds[seconds.count / 2])), worst "
                        + "\(BenchFormat.ratio(worst))")
            }
            if seconds.count < bugs.count { throw ExitCode(ExitStatus.failure) }
        }

        private struct Hunt {
            var seeds: UInt64 = 0
            /// Of an exhausted world; nil: seeds were run.
            var states: Int?
            var seconds = 0.0
            /// Of the seed that failed, or the promise that was broken; nil: not found.
            var reason: String?
            /// How a process ended that should have found it.
            var accident: String?
        }

        /// A world that is small enough to be exhausted and large enough for the bug, for those that
        /// seeds hardly come upon, or only after minutes.
        private func smallWorld(of bug: PlantedBug) -> ExplorationBounds? {
            var bounds = ExplorationBounds()
            switch bug {
            case .leadsWithVolatileVote:
                // A leader loses its term in a power cut, and wins it again by the same votes.
                bounds.elections = 2
                bounds.commands = 1
                bounds.crashes = 1
                return bounds
            case .oldVotesCounted:
                bounds.elections = 3
                bounds.commands = 0
            case .staleLeaderObeyed:
                bounds.elections = 2
                bounds.commands = 1
            default: return nil
            }
            // What a sound core would not listen to is what these two listen to.
            bounds.crashes = 0
            bounds.instantDisk = true
            bounds.keepsStaleMessages = true
            return bounds
        }

        /// The faults that bring the bug out: among all kinds at once some of these take far longer.
        private func scenario(for bug: PlantedBug) -> Scenario {
            switch bug {
            case .lateAnswerCounts, .readsUnconfirmed, .previousTermUnchecked: .network
            case .rotatesWithoutBarrier, .directoryNotSynced, .recoveryTrustsPageCache: .crashes
            case .snapshotKeepsOldMembers, .keptOutlivesPeer, .markIsEnough,
                .sessionsNotInSnapshot:
                .members
            case .logResetFirst, .compactsBeforeKept, .sessionsLate: .crashes
            case .corruptionIsTornTail, .readsUnchecked: .disks
            case .configurationLate, .configurationWhenAppended, .removedPeerCounted,
                .tombstoneNotDurable, .promotesUnheard, .removalNotFlushed:
                .members
            case .splitNotAtomic, .childBirthVolatile, .splitIgnoresEpoch, .appliesAheadOfKeys,
                .leadsFirstTermAgain, .replaysBeforeSplit, .sessionsNotSplit,
                .staleEpochRemembered, .lostReportForgotten, .versionsBeginAgain,
                .readsOutlastSplit, .parentsLogGoesFirst, .createsAheadOfSplit:
                .splits
            case .wipedNodeKeepsItsID, .deadNodesAreAccepted, .recoveryNotDurable,
                .replacesWhileApplying:
                .nodes
            default: .swarm
            }
        }

        private func exhaust(_ bounds: ExplorationBounds, _ bug: PlantedBug) -> Hunt {
            var hunt = Hunt()
            let start = Self.seconds(of: RUSAGE_SELF)
            PlantedBug.planted = bug
            let result = Explorer(bounds).run()
            PlantedBug.planted = nil
            hunt.seconds = Self.seconds(of: RUSAGE_SELF) - start
            hunt.states = result.progress.states
            hunt.reason = result.broken.map { "\($0)" }
            return hunt
        }

        private func hunt(_ bug: PlantedBug) -> Hunt {
            if let bounds = smallWorld(of: bug) { return exhaust(bounds, bug) }
            var hunt = Hunt()
            var settings = SimulationSettings(minutes: minutes, scenario: scenario(for: bug))
            settings.plant = bug.rawValue
            let start = Self.seconds(of: RUSAGE_CHILDREN)
            while hunt.reason == nil, hunt.seconds < budget {
                let next = seed + hunt.seeds
                WorkerProcess.run(next..<next + 1, settings) { hunt.reason = $0.reason }
                hunt.seeds += 1
                hunt.seconds = Self.seconds(of: RUSAGE_CHILDREN) - start
                if let reason = hunt.reason, Self.isAccident(reason) {
                    hunt.accident = reason
                    hunt.reason = nil
                    break
                }
            }
            return hunt
        }

        /// Whether a process died without a word: an assertion says what it found, and a process that runs out
        /// of stack or memory has found nothing.
        private static func isAccident(_ reason: String) -> Bool {
            reason.hasPrefix("because its process ended") && !reason.contains("Fatal error")
        }

        private func show(_ bug: PlantedBug, _ hunt: Hunt) {
            if json {
                printLine(
                    JSONValue.object([
                        ("bug", .string(bug.rawValue)),
                        ("scenario", .string(scenario(for: bug).rawValue)),
                        ("found", .bool(hunt.reason != nil)),
                        ("seeds", .int(Int(clamping: hunt.seeds))),
                        ("states", hunt.states.map { .int($0) } ?? .null),
                        ("cpu_seconds", .number(hunt.seconds)),
                        ("reason", (hunt.reason ?? hunt.accident).map { .string($0) } ?? .null),
                    ]).text)
            } else {
                let name = bug.rawValue.padded(to: 26)
                let cost = BenchFormat.ratio(hunt.seconds).padded(to: 8)
                let reason =
                    (hunt.reason ?? hunt.accident).map { String($0.prefix(100)) } ?? ""
                let verdict = hunt.reason == nil ? "NOT FOUND " : ""
                let effort = hunt.states.map { "\($0) states" } ?? "\(hunt.seeds) seeds"
                printLine("\(name) \(cost) s  \(effort)  \(verdict)\(reason)")
            }
            flushOutput()
        }

        /// CPU time of this process, or of all that it has started and that have ended.
        private static func seconds(of who: __rusage_who) -> Double {
            var usage = rusage()
            getrusage(__rusage_who_t(who.rawValue), &usage)
            func seconds(_ time: timeval) -> Double {
                Double(time.tv_sec) + Double(time.tv_usec) / 1e6
            }
            return seconds(usage.ru_utime) + seconds(usage.ru_stime)
        }
    }

    extension PlantedBug {
        static func named(_ name: String) throws -> PlantedBug {
            guard let bug = PlantedBug(rawValue: name) else {
                throw ValidationError(
                    "there is no bug \(name); there are "
                        + allCases.map(\.rawValue).joined(separator: ", "))
            }
            return bug
        }

        static func plant(_ name: String) throws { planted = try named(name) }
    }

    extension String {
        fileprivate func padded(to width: Int) -> String {
            count >= width ? self : self + String(repeating: " ", count: width - count)
        }
    }

#endif
