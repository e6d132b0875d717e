// The built command, run to its end.

import Foundation
import Testing

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

/// Runs what is to be refused, with this exit code and for this reason.
func refuse(
    _ arguments: [String], _ status: Int32, _ reason: String,
    at location: SourceLocation = #_sourceLocation
) throws {
    let outcome = try ukehi(arguments)
    #expect(
        outcome.status == status, "\(arguments): \(outcome.output) \(outcome.errors)",
        sourceLocation: location)
    #expect(
        outcome.errors.contains(reason), "\(arguments): \(outcome.errors)",
        sourceLocation: location)
}

/// The objects that a command printed, one a line.
func objects<T: Decodable>(_ output: String) throws -> [T] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try output.split(separator: "\n").map { line in
        try decoder.decode(T.self, from: Data(line.utf8))
    }
}
