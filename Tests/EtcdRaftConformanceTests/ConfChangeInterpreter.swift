// The commands of the confchange files: simple, enter-joint and leave-joint on one configuration.

import UkehiBase

@testable import UkehiRaft

/// One file's configuration and the progress that follows it.
struct ConfChangeInterpreter {
    private var configuration = Configuration()
    private var tracker = ProgressTracker()
    /// Raised by each command.
    private var lastIndex = LogIndex.zero

    mutating func run(_ directive: Directive) throws -> String {
        defer { lastIndex = lastIndex + 1 }
        let steps: [ConfigurationChange.Step]
        do {
            steps = try parseSteps(directive.input)
        } catch let error as DataDrivenError {
            return error.description
        }
        do {
            switch directive.command {
            case "simple":
                configuration = try configuration.applyingSimply(steps)
            case "enter-joint":
                configuration = try configuration.enteringJoint(
                    steps, autoLeave: directive.values("autoleave") == ["true"])
            case "leave-joint":
                if !steps.isEmpty { return "this command takes no input\n" }
                configuration = try configuration.leavingJoint()
            default:
                return "unknown command"
            }
        } catch {
            return Describe.membership(error, simple: directive.command == "simple") + "\n"
        }
        tracker.follow(
            configuration, lastIndex: lastIndex, window: Inflights(maxCount: 10, maxBytes: 0))
        var text = configuration.etcdDescription + "\n"
        for peer in tracker.peers { text += PeerProgress(peer).etcdDescription + "\n" }
        return text
    }
}

/// Steps as the files write them: `v1 l2 r3 u4`.
func parseSteps(_ input: String) throws -> [ConfigurationChange.Step] {
    try input.split(whereSeparator: { $0 == " " || $0 == "\n" }).map { token in
        guard token.count >= 2 else { throw DataDrivenError("unknown token \(token)") }
        let kind: ConfigurationChange.Step.Kind
        switch token.first {
        case "v": kind = .addVoter
        case "l": kind = .addLearner
        case "r": kind = .remove
        case "u": kind = .update
        default: throw DataDrivenError("unknown input: \(token)")
        }
        guard let id = UInt64(token.dropFirst()) else {
            throw DataDrivenError(
                "strconv.ParseUint: parsing \"\(token.dropFirst())\": invalid syntax")
        }
        return ConfigurationChange.Step(kind, PeerID(id))
    }
}
