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
        let commandLine = directive.commandLine
        let steps: [ConfigurationChange.Step]
        do {
            steps = try parseSteps(directive.input)
        } catch {
            return error.text
        }
        let isJoint = directive.command == "enter-joint"
        let rejoining = configuration.rejoining(steps, joint: isJoint)
        do {
            switch directive.command {
            case "simple":
                try commandLine.takes(words: 0...0)
                configuration = try configuration.applyingSimply(steps)
            case "enter-joint":
                try commandLine.takes(words: 0...0, options: ["autoleave"])
                let autoLeave = commandLine.values("autoleave")
                guard autoLeave.count <= 1 else {
                    throw TranscriptError("enter-joint takes one autoleave")
                }
                configuration = try configuration.enteringJoint(
                    steps,
                    autoLeave: try autoLeave.first.map { try CommandLine.isTrue($0) } ?? false)
            case "leave-joint":
                try commandLine.takes(words: 0...0)
                if !steps.isEmpty { return "this command takes no input\n" }
                configuration = try configuration.leavingJoint()
            default:
                return "unknown command"
            }
        } catch let error as MembershipError {
            return Describe.membership(error, simple: directive.command == "simple") + "\n"
        }
        tracker.follow(
            configuration, restarting: rejoining, lastIndex: lastIndex,
            window: Inflights(maxCount: 10, maxBytes: 0))
        var text = configuration.etcdDescription + "\n"
        for peer in tracker.peers { text += PeerProgress(peer).etcdDescription + "\n" }
        return text
    }
}

/// Steps as the files write them, one space apart: `v1 l2 r3 u4`.
func parseSteps(_ input: String) throws(ReportedError) -> [ConfigurationChange.Step] {
    guard !input.isEmpty else { return [] }
    var steps: [ConfigurationChange.Step] = []
    for token in input.split(separator: " ", omittingEmptySubsequences: false) {
        guard token.utf8.count >= 2 else { throw ReportedError("unknown token \(token)") }
        let kind: ConfigurationChange.Step.Kind
        switch token.first {
        case "v": kind = .addVoter
        case "l": kind = .addLearner
        case "r": kind = .remove
        case "u": kind = .update
        default: throw ReportedError("unknown input: \(token)")
        }
        let digits = String(token.dropFirst())
        guard let id = try? CommandLine.number(digits) else {
            let isTooLarge = digits.utf8.allSatisfy { (0x30...0x39).contains($0) }
            throw ReportedError(
                "strconv.ParseUint: parsing \(Describe.quoted(Bytes(digits))): "
                    + (isTooLarge ? "value out of range" : "invalid syntax"))
        }
        steps.append(ConfigurationChange.Step(kind, PeerID(id)))
    }
    return steps
}
