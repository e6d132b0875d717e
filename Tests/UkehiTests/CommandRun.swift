// The built command, run to its end.

import Foundation

/// What a command printed, and how it ended.
struct Outcome {
    var status: Int32
    var output: String
    var errors: String
}

/// Runs the built command to its end.
func ukehi(_ arguments: [String], input: String = "") throws -> Outcome {
    let process = Process()
    process.executableURL = ServerProcess.executable
    process.arguments = arguments
    let (output, errors, stdin) = (Pipe(), Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = stdin
    try process.run()
    stdin.fileHandleForWriting.write(Data(input.utf8))
    try stdin.fileHandleForWriting.close()
    // What these commands print fits in a pipe, so that reading one after the other is safe.
    let printed = try output.fileHandleForReading.readToEnd() ?? Data()
    let complained = try errors.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Outcome(
        status: process.terminationStatus, output: String(decoding: printed, as: UTF8.self),
        errors: String(decoding: complained, as: UTF8.self))
}
